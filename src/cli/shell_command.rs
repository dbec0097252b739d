//! The prompt's own commands: lines that begin with a backslash.

use std::path::PathBuf;

/// What a line asks of the prompt itself.
#[derive(Debug, Clone, PartialEq)]
pub enum ShellCommand {
    Quit,
    Help,
    /// Tables, or one table's columns.
    Describe(Option<String>),
    /// Functions whose names hold a text.
    Functions(Option<String>),
    Timing,
    Expanded,
    /// Results go into this file; `None`: to the terminal again.
    Output(Option<PathBuf>),
}

/// A command as `\?` shows it.
pub struct Described {
    pub name: &'static str,
    pub argument: &'static str,
    pub description: &'static str,
}

const fn described(name: &'static str, argument: &'static str, description: &'static str) -> Described {
    Described { name, argument, description }
}

pub const COMMANDS: &[Described] = &[
    described("\\?", "", "this list"),
    described("\\d", "[TABLE]", "list the tables, or one table's columns"),
    described("\\df", "[TEXT]", "list the functions, or those whose names hold a text"),
    described("\\o", "[FILE]", "write results into a file, in the format of --format; without a name: here again"),
    described("\\q", "", "leave"),
    described("\\timing", "", "say how long each statement took, or no more"),
    described("\\x", "", "one line a column instead of one a row, or no more"),
];

/// Reads a line: `None` where it is SQL, an error where it is no command that there is.
pub fn shell_command(line: &str) -> Option<Result<ShellCommand, String>> {
    let line = line.trim();
    if matches!(line, "quit" | "exit") {
        return Some(Ok(ShellCommand::Quit));
    }
    if !line.starts_with('\\') {
        return None;
    }
    let line = line.trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = Some(argument.trim().to_owned()).filter(|argument| !argument.is_empty());
    let takes = COMMANDS.iter().find(|command| command.name == name).map(|command| !command.argument.is_empty());
    Some(match (name, takes) {
        (_, Some(false)) if argument.is_some() => Err(format!("{name} takes no argument")),
        ("\\?", _) => Ok(ShellCommand::Help),
        ("\\d", _) => Ok(ShellCommand::Describe(argument)),
        ("\\df", _) => Ok(ShellCommand::Functions(argument)),
        ("\\o", _) => Ok(ShellCommand::Output(argument.map(PathBuf::from))),
        ("\\q", _) => Ok(ShellCommand::Quit),
        ("\\timing", _) => Ok(ShellCommand::Timing),
        ("\\x", _) => Ok(ShellCommand::Expanded),
        _ => Err(format!("there is no command {name}; \\? lists them")),
    })
}

/// What `\?` says.
pub fn help() -> String {
    let line = |command: &Described| {
        format!("  {:<16}{}\n", format!("{} {}", command.name, command.argument), command.description)
    };
    let commands: String = COMMANDS.iter().map(line).collect();
    format!(
        "SQL ends with ';' and may take several lines. Tab completes. Ctrl-C stops a query, Ctrl-D leaves.\n{commands}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_backslash_are_commands_and_all_others_sql() {
        assert_eq!(shell_command("SELECT 1;"), None);
        assert_eq!(shell_command(" \\q ;"), Some(Ok(ShellCommand::Quit)));
        assert_eq!(shell_command("\\d  norm.gsm8k"), Some(Ok(ShellCommand::Describe(Some("norm.gsm8k".into())))));
        assert_eq!(shell_command("\\o a b.csv"), Some(Ok(ShellCommand::Output(Some("a b.csv".into())))));
        assert_eq!(shell_command("\\x on"), Some(Err("\\x takes no argument".into())));
        assert_eq!(shell_command("\\dt"), Some(Err("there is no command \\dt; \\? lists them".into())));
    }

    #[test]
    fn every_command_that_is_described_is_there() {
        for command in COMMANDS {
            assert!(shell_command(command.name).unwrap().is_ok(), "{}", command.name);
            assert!(help().contains(command.description));
        }
    }
}
