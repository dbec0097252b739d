//! Folds text at a terminal's width.

/// `text` in lines of at most `width` columns, each after `indent`; the first after `first` instead, which should be
/// as wide. Breaks at white space, within a word only where the word is wider than a line. A blank text is one line.
/// Control characters are left out: a model's answer must not steer a terminal.
pub(crate) fn fold(text: &str, first: &str, indent: &str, width: usize) -> String {
    let room = width.saturating_sub(columns(indent)).max(8);
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.trim().lines() {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_whitespace() {
            let wide = columns(word);
            if used > 0 && used + 1 + wide > room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            for c in word.chars().filter(|c| !c.is_control()) {
                if used + columns_of(c) > room {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(c);
                used += columns_of(c);
            }
        }
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        out.push_str(format!("{}{line}", if number == 0 { first } else { indent }).trim_end());
        out.push('\n');
    }
    out
}

pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Two for the scripts that terminals set wide (the wide blocks of Unicode's East Asian Width, coarsely), else one.
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0..0x20 | 0x7f..0xa0 | 0x300..0x370 | 0x200b..0x2010 | 0xfe00..0xfe10 => 0,
        0x1100..0x1160 | 0x2e80..0xa4d0 | 0xac00..0xd7a4 | 0xf900..0xfb00 | 0xfe30..0xfe70 | 0xff00..0xff61 => 2,
        0x1f300..0x1f650 | 0x1f900..0x1fa00 | 0x20000..0x3fffe => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_at_words_and_long_words_break_at_the_width() {
        assert_eq!(fold("aa bb cc dd", "Q ", "  ", 10), "Q aa bb cc\n  dd\n");
        assert_eq!(fold("abcdefghijkl m", "", "", 8), "abcdefgh\nijkl m\n");
        assert_eq!(fold("日本語日本語", "", "", 8), "日本語日\n本語\n");
        assert_eq!(fold(" \n", "A ", "  ", 20), "A\n");
        assert_eq!(fold("one\n\ntwo", "", "", 20), "one\n\ntwo\n");
        assert_eq!(fold("a\u{1b}[31mred", "", "", 20), "a[31mred\n");
    }
}
