//! `python_syntax_error(text TEXT) → TEXT`: the first place where a text is not Python, or NULL where all of it parses.
//! NULL for NULL.
//!
//! ```sql
//! SELECT python_syntax_error('def f(x) return x');        -- line 1: not Python: def f(x) return x
//! SELECT python_syntax_error('def f(x):\n    return x');  -- NULL
//! ```
//!
//! The text is parsed by the grammar of tree-sitter-python and never run. It covers Python 3, and `print x` and `exec x` of
//! Python 2. It is a grammar without a compiler behind it: `return` outside of a function, names that do not exist and an
//! assignment to a literal go through. On MBPP's 874 solutions it agrees with Python's own parser, also where they are cut
//! off at any place or a colon is taken out. Where a text has code fences (```), the first of them is what is read. A text
//! without a statement, such as one of comments, is no Python here.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::StringViewBuilder;
use datafusion_common::{Result, exec_datafusion_err};
use tree_sitter::{Node, Parser};

use crate::function::{Definition, Kind};

pub(crate) const PYTHON_SYNTAX_ERROR: Definition = Definition {
    name: "python_syntax_error",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let mut errors = StringViewBuilder::with_capacity(arguments.rows);
        for row in 0..arguments.rows {
            match texts.get(row) {
                Some(text) => errors.append_option(python_syntax_error(text)?),
                None => errors.append_null(),
            }
        }
        Ok(Arc::new(errors.finish()))
    },
    description: "The first place where a text is not Python, or NULL where it parses. Nothing is run.",
    example: "SELECT python_syntax_error('def f(x) return x');",
    ..Definition::BLANK
};

thread_local! {
    /// A parser is set up once a thread: that costs more than parsing a short answer.
    static PARSER: RefCell<Option<Parser>> = const { RefCell::new(None) };
}

fn python_syntax_error(text: &str) -> Result<Option<String>> {
    let (code, first_line) = fenced(text).unwrap_or((text, 0));
    let tree = PARSER.with_borrow_mut(|parser| {
        if parser.is_none() {
            let mut new = Parser::new();
            new.set_language(&tree_sitter_python::LANGUAGE.into())
                .map_err(|e| exec_datafusion_err!("python_syntax_error: the grammar cannot be loaded: {e}"))?;
            *parser = Some(new);
        }
        let tree = parser.as_mut().and_then(|parser| parser.parse(code, None));
        tree.ok_or_else(|| exec_datafusion_err!("python_syntax_error: the parser gave up"))
    })?;
    let root = tree.root_node();
    let mut cursor = root.walk();
    if !root.children(&mut cursor).any(|child| child.is_named() && child.kind() != "comment") {
        return Ok(Some("there is no statement".to_owned()));
    }
    if !root.has_error() {
        return Ok(empty_block(root).map(|line| format!("line {}: a block without a statement", first_line + line + 1)));
    }
    let Some(node) = first_error(root) else { return Ok(Some("not Python".to_owned())) };
    let line = node.start_position().row;
    let number = first_line + line + 1;
    Ok(Some(if node.is_missing() {
        format!("line {number}: {} is missing", node.kind())
    } else {
        let shown: String = code.lines().nth(line).unwrap_or_default().trim().chars().take(60).collect();
        format!("line {number}: not Python: {shown}")
    }))
}

/// What stands in the first code fence, and the number of lines before it.
fn fenced(text: &str) -> Option<(&str, usize)> {
    let open = text.find("```")?;
    let from = open + text[open..].find('\n')? + 1;
    let to = text[from..].find("```").map_or(text.len(), |length| from + length);
    Some((&text[from..to], text[..from].matches('\n').count()))
}

/// The first node that is an error or is missing, in the order of the text. Only branches that hold one are entered.
fn first_error(root: Node<'_>) -> Option<Node<'_>> {
    let mut node = root;
    loop {
        if node.is_error() || node.is_missing() {
            return Some(node);
        }
        let mut cursor = node.walk();
        let next = node.children(&mut cursor).find(|child| child.has_error());
        node = next?;
    }
}

/// The line of the first block that has no statement, which the grammar lets pass: code that was cut off behind a colon.
fn empty_block(root: Node<'_>) -> Option<usize> {
    let mut cursor = root.walk();
    loop {
        let node = cursor.node();
        let has_statement = |node: Node<'_>| {
            let mut children = node.walk();
            node.named_children(&mut children).any(|child| child.kind() != "comment")
        };
        if node.kind() == "block" && !has_statement(node) {
            return Some(node.start_position().row);
        }
        if cursor.goto_first_child() || cursor.goto_next_sibling() {
            continue;
        }
        loop {
            if !cursor.goto_parent() {
                return None;
            }
            if cursor.goto_next_sibling() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Option<String> {
        python_syntax_error(text).unwrap()
    }

    #[test]
    fn python_has_no_error() {
        for code in [
            "def f(x):\n    return x * 2\n",
            "x = [n for n in range(3)]",
            "async def f():\n    async with a as b:\n        yield await b",
            "match x:\n    case [1, *_]:\n        pass",
            "print(f\"{a!r:>10}\")",
            "class A:\n    def f(self) -> int: ...",
            "Here it is:\n```python\nreturn 1\n```\nIt is short.",
        ] {
            assert_eq!(error(code), None, "{code}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_python_is_told_with_its_line() {
        assert_eq!(error("def f(x) return x").unwrap(), "line 1: not Python: def f(x) return x");
        assert!(error("x = 1\ny = (2 +\n").unwrap().starts_with("line "));
        assert!(error("```python\nx = 1\nfor in y:\n    pass\n```").unwrap().starts_with("line 3: "));
        assert!(error("Use the function sum to add the numbers.").is_some());
        assert!(error("def f(x):\n    if x > 1:").is_some());
        assert_eq!(error("# nothing").unwrap(), "there is no statement");
        assert_eq!(error("").unwrap(), "there is no statement");
    }

    #[test]
    fn deep_nesting_is_read_to_its_end() {
        let deep = format!("x = {}1{}", "(".repeat(5000), ")".repeat(5000));
        let _ = error(&deep);
        assert!(error(&"(".repeat(5000)).is_some());
    }
}
