//! Titles as Python writes them: jinja2's filter `title` capitalizes words between spaces, hyphens and brackets, the method
//! `title` of a text each letter that follows no letter.

use minijinja::{Error, State, Value, filters};

/// The filter. Python's white space has four control characters more.
pub(crate) fn title_filter(text: &str) -> String {
    let is_python_space = |char| matches!(char, '\u{1c}'..='\u{1f}');
    text.split_inclusive(is_python_space).map(|part| filters::title(part.into())).collect()
}

/// `str.title()`.
pub(crate) fn title_method(state: &mut State, text: &str) -> Result<String, Error> {
    let mut title = String::with_capacity(text.len());
    let mut after_letter = false;
    for (place, char) in text.char_indices() {
        match char {
            _ if char.is_ascii() && after_letter => title.push(char.to_ascii_lowercase()),
            _ if char.is_ascii() => title.push(char.to_ascii_uppercase()),
            'Σ' if after_letter => title.push(if ends_word(&text[place + char.len_utf8()..]) { 'ς' } else { 'σ' }),
            _ if after_letter => title.extend(char.to_lowercase()),
            _ if !is_cased(char) => title.push(char),
            // It alone knows the letters that have a third case.
            _ => title.push_str(&state.apply_filter("capitalize", &[Value::from(char.to_string())])?.to_string()),
        }
        after_letter = is_cased(char);
    }
    Ok(title)
}

/// Whether no letter follows, but for marks inside a word.
fn ends_word(rest: &str) -> bool {
    let is_mark = |char: &char| matches!(char, '\'' | '’' | '.' | ':' | '·' | '\u{ad}' | '\u{300}'..='\u{36f}');
    rest.chars().find(|char| !is_mark(char)).is_none_or(|char| !is_cased(char))
}

fn is_cased(char: char) -> bool {
    let is_titlecase = || char.to_lowercase().ne([char]) && char.to_uppercase().ne([char]);
    char.is_lowercase() || char.is_uppercase() || is_titlecase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jinja::render;

    /// As Python 3.12 and jinja2 3.1.6 write it.
    #[test]
    fn titles_are_as_in_python() {
        let of = |template| {
            let text = "they're o'neil's 3rd ß ǆ x-y ΟΔΟΣ ΟΔΟΣ's ﬁn";
            let values = [("t", Value::from(text)), ("c", Value::from("a\u{1c}bC")), ("f", Value::from(1.5))];
            render(template, Value::from_pairs(values))
        };
        assert_eq!(of("{{ t.title() }}").unwrap(), "They'Re O'Neil'S 3Rd Ss ǅ X-Y Οδος Οδοσ'S Fin");
        assert_eq!(of("{{ t | title }}").unwrap(), "They're O'neil's 3rd SS Ǆ X-Y Οδος Οδοσ's FIn");
        assert_eq!(of("{{ c | title }}|{{ f | title }}|{{ none | title }}").unwrap(), "A\u{1c}Bc|1.5|None");
        assert!(of("{{ missing | title }}").is_err());
    }
}
