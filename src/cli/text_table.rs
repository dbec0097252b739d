//! Tables for people: texts to the left, numbers to the right, numbers as one reads them.

use indicatif::{HumanBytes, HumanCount};

/// Rows of equal length, the first of them the names of the columns, as aligned lines. The first `texts` columns stand
/// to the left, all others to the right.
pub fn lines(rows: &[Vec<String>], texts: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column < texts {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// 1,234,567
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// 1.21 MiB
pub fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

/// Dollars, to the cent from a dollar on and to four digits below.
pub fn cost(usd: f64) -> String {
    match usd.abs() {
        0.0 => "$0".to_owned(),
        large if large >= 1.0 => {
            let cents = (usd * 100.0).round();
            format!("${}.{:02}", count((cents / 100.0) as u64), (cents % 100.0) as u64)
        }
        small => {
            let digits = (3 - small.log10().floor() as i32).clamp(4, 12) as usize;
            format!("${usd:.digits$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_read_at_a_glance() {
        let costs = [0.0, 0.00001234, 0.05, 0.5, 1.0, 1.999, 1234.5].map(cost);
        assert_eq!(costs, ["$0", "$0.00001234", "$0.05000", "$0.5000", "$1.00", "$2.00", "$1,234.50"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["model", "calls"], ["a", "1,234"], ["long name", "7"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(lines(&rows, 1), "model      calls\na          1,234\nlong name      7\n");
    }
}
