//! The drain as a picture: a bar for each contender, its end the median, the line across it from the lowest to the highest.

use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

/// Draws what the drain measured; nothing where it was not.
pub fn draw(results: &Value, path: &Path) {
    let Some(contenders) = results["drain"]["contenders"].as_object() else { return };
    let bars: Vec<(&str, [f64; 3])> = contenders
        .iter()
        .map(|(name, figure)| {
            let speed = ["min", "median", "max"]
                .map(|of| figure["events_per_second"][of].as_f64().unwrap_or_default());
            (name.as_str(), speed)
        })
        .rev()
        .collect();
    let longest = bars.iter().map(|(_, speed)| speed[2]).fold(1.0, f64::max) * 1.08;
    let count = bars.len();

    let area = SVGBackend::new(path, (900, 60 + 44 * count as u32)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let title = format!("Events a second, drain of {} events", results["drain"]["events"]);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(230)
        .build_cartesian_2d(0.0..longest, (0..count - 1).into_segmented())
        .unwrap();
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) => bars.get(*place).map_or("", |bar| bar.0).to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .y_labels(count)
        .y_label_formatter(&name)
        .x_label_formatter(&|speed| format!("{speed:.0}"))
        .label_style(("sans-serif", 13))
        .draw()
        .unwrap();
    let bar = |(place, (name, [_, median, _])): (usize, &(&str, [f64; 3]))| {
        let colour =
            if name.starts_with("worker") { RGBColor(31, 119, 180) } else { RGBColor(176, 176, 176) };
        let corners = [(0.0, SegmentValue::Exact(place)), (*median, SegmentValue::Exact(place + 1))];
        let mut bar = Rectangle::new(corners, colour.filled());
        bar.set_margin(6, 6, 0, 0);
        bar
    };
    chart.draw_series(bars.iter().enumerate().map(bar)).unwrap();
    let range = |(place, (_, [min, _, max])): (usize, &(&str, [f64; 3]))| {
        let ends = [*min, *max].map(|speed| (speed, SegmentValue::CenterOf(place)));
        PathElement::new(ends.to_vec(), BLACK.stroke_width(2))
    };
    chart.draw_series(bars.iter().enumerate().map(range)).unwrap();
    area.present().unwrap();
}
