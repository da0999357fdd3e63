//! One plot, drawn as SVG from nothing but its data: the same data make the same file.

use std::fmt::{self, Display};

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (860, 480);

/// Told apart by those who can't tell red from green, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(150, 150, 150),
    RGBColor(230, 159, 0),
];

/// A plot of some lines over one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// The file's name, without `.svg`.
    pub name: &'static str,
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    /// Where there are no lines.
    pub legend: Corner,
    pub lines: Vec<Line>,
}

/// Of the plot's area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    UpperLeft,
    LowerLeft,
    LowerRight,
}

/// What is along an axis, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub label: &'static str,
    pub logarithmic: bool,
}

/// The points of one thing, from left to right.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub of: String,
    pub points: Vec<(f64, f64)>,
}

impl Axis {
    pub const fn linear(label: &'static str) -> Self {
        Self { label, logarithmic: false }
    }

    pub const fn logarithmic(label: &'static str) -> Self {
        Self { label, logarithmic: true }
    }

    /// From the first to the last value that is shown. A logarithmic axis ends a little beside the data, a linear one
    /// begins at 0.
    fn ends(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let most = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        if self.logarithmic {
            (values.fold(most, f64::min) / 1.25, most * 1.25)
        } else {
            (0.0, most * 1.05)
        }
    }
}

/// As a picture in a page of the book that is beside the folder `plots`.
impl Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "![{}](plots/{}.svg)", self.title, self.name)
    }
}

impl Plot {
    /// The file's text.
    ///
    /// # Errors
    /// If there is nothing to draw.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            self.draw(&area).map_err(|error| anyhow!("drawing {}: {error}", self.name))?;
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Trouble> {
        area.fill(&WHITE)?;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (left, right) = self.x.ends(points().map(|point| point.0));
        let (bottom, top) = self.y.ends(points().map(|point| point.1));
        match (self.x.logarithmic, self.y.logarithmic) {
            (false, false) => self.lines(area, left..right, bottom..top),
            (true, false) => self.lines(area, (left..right).log_scale(), bottom..top),
            (false, true) => self.lines(area, left..right, (bottom..top).log_scale()),
            (true, true) => self.lines(area, (left..right).log_scale(), (bottom..top).log_scale()),
        }
    }

    fn lines<X, Y>(&self, area: &Area<'_>, x: X, y: Y) -> Result<(), Trouble>
    where
        X: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let font = |size| ("sans-serif", size).into_font();
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, font(20))
            .margin(14)
            .margin_right(28)
            .x_label_area_size(46)
            .y_label_area_size(84)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .x_label_formatter(&|value| in_figures(*value))
            .y_label_formatter(&|value| in_figures(*value))
            .label_style(font(14))
            .axis_desc_style(font(15))
            .light_line_style(RGBColor(243, 243, 243))
            .bold_line_style(RGBColor(224, 224, 224))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let points = || line.points.iter().copied();
            let drawn = chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            let colour = *colour;
            drawn.label(&line.of).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3))
            });
            // A mark for each measurement, unless they are so many that they would be a line themselves.
            if line.points.len() <= 12 {
                let marks = points().map(|point| Circle::new(point, 3, colour.filled()));
                chart.draw_series(marks)?;
            }
        }
        chart
            .configure_series_labels()
            .position(match self.legend {
                Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                Corner::LowerLeft => SeriesLabelPosition::LowerLeft,
                Corner::LowerRight => SeriesLabelPosition::LowerRight,
            })
            .label_font(font(14))
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .draw()?;
        area.present()
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Trouble = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

/// `60,000`, `0.25`, `1e-4`.
fn in_figures(value: f64) -> String {
    let rounded = format!("{value:.0}");
    if value.abs() < 0.0005 && value != 0.0 {
        return format!("{value:e}");
    }
    if value.abs() < 10.0 && (value - value.round()).abs() > 1e-9 {
        let figures = format!("{value:.3}");
        return figures.trim_end_matches('0').to_owned();
    }
    grouped(&rounded)
}

/// Digits in groups of three.
pub fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Axis, Corner, Line, Plot, in_figures};

    fn plot() -> Plot {
        let line =
            |of: &str, points: &[(f64, f64)]| Line { of: of.to_owned(), points: points.to_vec() };
        Plot {
            name: "speed",
            title: "Speed of snails".to_owned(),
            x: Axis::logarithmic("snails"),
            y: Axis::linear("metres an hour"),
            legend: Corner::LowerLeft,
            lines: vec![
                line("the slow", &[(1.0, 1.0), (60_000.0, 2.0)]),
                line("the quick", &[(1.0, 3.0), (60_000.0, 2.5)]),
            ],
        }
    }

    #[test]
    fn what_is_measured_is_told_in_words_and_drawn_twice_alike() {
        let svg = plot().svg().expect("a drawing");
        for text in ["Speed of snails", "metres an hour", "the slow", "the quick", "10,000"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        assert_eq!(plot().svg().expect("a drawing"), svg);
        let mut other = plot();
        other.lines[1].points[1].1 = 2.6;
        assert_ne!(other.svg().expect("a drawing"), svg);
    }

    #[test]
    fn figures_are_short() {
        let figures = [0.0, 0.25, 5.0, 1000.0, 60_000.0, 250_000.0, 0.001].map(in_figures);
        assert_eq!(figures, ["0", "0.25", "5", "1,000", "60,000", "250,000", "0.001"]);
    }
}
