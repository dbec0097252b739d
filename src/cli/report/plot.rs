//! A figure's rows as inline SVG. Texts in it are set by the browser, so no font is needed here.

use std::fmt::Display;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use plotters::coord::Shift;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::Plot;
use super::result::{QueryResult, short};

/// Pixels of a plot; the page scales it to its column.
const WIDTH: u32 = 560;
const BAR: u32 = 22;
const COLUMNS_HEIGHT: u32 = 210;

/// Bars that are drawn; the table behind a plot has all rows.
const MOST_BARS: usize = 40;
/// Characters of a bar's name.
const LONGEST_NAME: usize = 36;

/// One colour a series: what is kept first.
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 102), RGBColor(217, 138, 79), RGBColor(92, 107, 192), RGBColor(150, 150, 150)];
const INK: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(228, 228, 228);
const FONT: (&str, u32) = ("sans-serif", 15);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The SVG of a plot, or `None` where there is nothing to draw. Bars beyond the 40th are left out.
pub fn draw(plot: Plot, result: &QueryResult) -> Result<Option<String>> {
    let series: Vec<usize> = plot.series().iter().filter_map(|name| result.place(name)).collect();
    if result.rows.is_empty() || series.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    match plot {
        Plot::Table => return Ok(None),
        Plot::Bars { labels, .. } => {
            let bars: Vec<(String, Vec<f64>)> = result
                .rows
                .iter()
                .take(MOST_BARS)
                .map(|row| {
                    let name = row[..labels].iter().zip(&result.columns).map(|(cell, column)| match cell.number {
                        Some(_) if labels > 1 => format!("{column} {}", cell.text),
                        _ => cell.text.clone(),
                    });
                    (shorten(&name.collect::<Vec<_>>().join(", ")), values(row, &series))
                })
                .collect();
            let legend = plot.series().len() > 1;
            let height = BAR * bars.len() as u32 + 34 + if legend { 22 } else { 0 };
            let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
            draw_bars(&area, &bars, plot.series()).map_err(cannot_draw)?;
            area.present().map_err(cannot_draw)?;
        }
        Plot::Columns { step, .. } => {
            let columns = columns(result, &series, step);
            let area = SVGBackend::with_string(&mut svg, (WIDTH, COLUMNS_HEIGHT)).into_drawing_area();
            draw_columns(&area, &columns, plot.series()).map_err(cannot_draw)?;
            area.present().map_err(cannot_draw)?;
        }
    }
    // Within HTML an SVG needs no name space, and a fixed size keeps it from fitting its column.
    let size = svg.find(" viewBox").ok_or_else(|| exec_datafusion_err!("the plot has no view box"))?;
    Ok(Some(format!("<svg{}", svg[size..].replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1))))
}

impl Plot {
    pub fn series(self) -> &'static [&'static str] {
        match self {
            Plot::Bars { series, .. } | Plot::Columns { series, .. } => series,
            Plot::Table => &[],
        }
    }
}

/// How many of so many rows have no bar.
pub fn left_out(plot: Plot, rows: usize) -> usize {
    if matches!(plot, Plot::Bars { .. }) { rows.saturating_sub(MOST_BARS) } else { 0 }
}

fn cannot_draw(error: impl Display) -> DataFusionError {
    exec_datafusion_err!("a plot cannot be drawn: {error}")
}

fn values(row: &[super::result::Cell], series: &[usize]) -> Vec<f64> {
    series.iter().map(|place| row[*place].number.filter(|n| n.is_finite()).unwrap_or(0.0)).collect()
}

/// A column for every step between the least and the greatest value, also where no row has it.
fn columns(result: &QueryResult, series: &[usize], step: f64) -> Vec<(String, Vec<f64>)> {
    let nth = |value: f64| (value / step).round() as i64;
    let found: Vec<(i64, Vec<f64>)> = result
        .rows
        .iter()
        .filter_map(|row| Some((nth(row[0].number.filter(|n| n.is_finite())?), values(row, series))))
        .collect();
    let (Some(first), Some(last)) = (found.iter().map(|f| f.0).min(), found.iter().map(|f| f.0).max()) else {
        return Vec::new();
    };
    // The queries bound their values; a query that forgot it does not make a plot of a million columns.
    (first..=last.min(first + 400))
        .map(|n| {
            let values = found.iter().find(|(at, _)| *at == n).map(|(_, values)| values.clone());
            (short(n as f64 * step), values.unwrap_or_else(|| vec![0.0; series.len()]))
        })
        .collect()
}

fn shorten(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if name.chars().count() <= LONGEST_NAME {
        return name;
    }
    name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
}

type Drawn<'a> = std::result::Result<(), Box<dyn std::error::Error + 'a>>;

fn top(bars: &[(String, Vec<f64>)]) -> f64 {
    let most = bars.iter().map(|(_, values)| values.iter().sum::<f64>()).fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

fn draw_bars<'a>(area: &Area<'a>, bars: &[(String, Vec<f64>)], series: &[&str]) -> Drawn<'a> {
    let top = top(bars);
    let longest = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) as u32;
    let area = legend(area, series)?;
    let mut chart = ChartBuilder::on(&area)
        .margin_right(64)
        .set_label_area_size(LabelAreaPosition::Left, longest * 8 + 14)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d(0.0..top, (0..bars.len()).into_segmented())?;
    let name = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(at) => bars.iter().rev().nth(*at).map(|(name, _)| name.clone()).unwrap_or_default(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .y_labels(bars.len() + 1)
        .y_label_formatter(&name)
        .x_labels(6)
        .x_label_formatter(&|x| short(*x))
        .label_style(FONT.into_font().color(&INK))
        .draw()?;
    for (at, (_, values)) in bars.iter().rev().enumerate() {
        let mut from = 0.0;
        for (value, colour) in values.iter().zip(COLOURS.iter().cycle()) {
            let ends = [(from, SegmentValue::Exact(at)), (from + value, SegmentValue::Exact(at + 1))];
            let mut bar = Rectangle::new(ends, colour.filled());
            bar.set_margin(3, 3, 0, 0);
            chart.draw_series([bar])?;
            from += value;
        }
        let style = FONT.into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        let (x, y) = chart.backend_coord(&(from, SegmentValue::CenterOf(at)));
        // The chart's coordinates are those of the whole picture.
        let (_, height) = area.get_pixel_range();
        area.draw(&Text::new(short(from), (x + 6, y - height.start), style))?;
    }
    Ok(())
}

fn draw_columns<'a>(area: &Area<'a>, columns: &[(String, Vec<f64>)], series: &[&str]) -> Drawn<'a> {
    let area = legend(area, series)?;
    let mut chart = ChartBuilder::on(&area)
        .margin_right(20)
        .margin_top(8)
        .set_label_area_size(LabelAreaPosition::Left, 64)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d((0..columns.len()).into_segmented(), 0.0..top(columns))?;
    let name = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(at) => columns.get(*at).map(|(name, _)| name.clone()).unwrap_or_default(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(16)
        .x_label_formatter(&name)
        .y_labels(5)
        .y_label_formatter(&|y| short(*y))
        .label_style(FONT.into_font().color(&INK))
        .draw()?;
    for (at, (_, values)) in columns.iter().enumerate() {
        let mut from = 0.0;
        for (value, colour) in values.iter().zip(COLOURS.iter().cycle()) {
            let ends = [(SegmentValue::Exact(at), from), (SegmentValue::Exact(at + 1), from + value)];
            let mut column = Rectangle::new(ends, colour.filled());
            column.set_margin(0, 0, 2, 2);
            chart.draw_series([column])?;
            from += value;
        }
    }
    Ok(())
}

/// The names of the series above a plot of several; the area that is left.
fn legend<'a, 'b>(
    area: &'b Area<'a>,
    series: &[&str],
) -> std::result::Result<Area<'a>, Box<dyn std::error::Error + 'a>> {
    if series.len() < 2 {
        return Ok(area.clone());
    }
    let (head, rest) = area.split_vertically(22);
    let mut x = 64;
    for (name, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let name = name.replace('_', " ");
        head.draw(&Rectangle::new([(x, 4), (x + 12, 16)], colour.filled()))?;
        let style = FONT.into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        head.draw(&Text::new(name.clone(), (x + 18, 10), style))?;
        x += 40 + 8 * name.chars().count() as i32;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::super::result::Cell;
    use super::*;

    fn result(columns: &[&str], rows: &[(&str, f64)]) -> QueryResult {
        let number = |n: f64| Cell { text: short(n), number: Some(n), texts: Vec::new() };
        QueryResult {
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: rows
                .iter()
                .map(|(name, n)| {
                    let first =
                        name.parse().map_or_else(|_| Cell { text: (*name).to_owned(), ..Cell::default() }, number);
                    vec![first, number(*n)]
                })
                .collect(),
        }
    }

    #[test]
    fn bars_have_escaped_names_and_their_values() {
        let plot = Plot::Bars { labels: 1, series: &["items"] };
        let svg = draw(plot, &result(&["step", "items"], &[("<b>", 3.0), ("none", 0.0)])).unwrap().unwrap();
        assert!(svg.starts_with("<svg viewBox=") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>") && !svg.contains("http"), "{svg}");
        assert!(draw(plot, &result(&["step", "items"], &[])).unwrap().is_none());
        assert_eq!(left_out(plot, 41), 1);
    }

    #[test]
    fn a_step_without_rows_is_an_empty_column() {
        let result = result(&["words", "kept"], &[("5", 2.0), ("20", 1.0)]);
        let names: Vec<String> = columns(&result, &[1], 5.0).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["5", "10", "15", "20"]);
        assert!(draw(Plot::Columns { step: 5.0, series: &["kept"] }, &result).unwrap().is_some());
    }
}
