//! The measurements as a picture: all-reduce over size for every path, both axes logarithmic.

use plotters::prelude::*;

use super::result::{Row, Verified, What};

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0xc0, 0x39, 0x2b),
    RGBColor(0x1e, 0x84, 0x49),
    RGBColor(0x7d, 0x3c, 0x98),
    RGBColor(0xb9, 0x77, 0x0e),
    RGBColor(0x56, 0x65, 0x73),
];

/// A line: what it is called, and its points (bytes, microseconds).
type Series = (String, Vec<(f64, f64)>);

/// The picture as SVG.
pub fn svg(verified: &Verified) -> String {
    let mut picture = String::new();
    // Drawing into memory fails only for a picture without room, which this one has.
    let _ = draw(&mut picture, &series(&verified.rows));
    picture
}

fn series(rows: &[Row]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for row in rows {
        let (by, bytes) = match row.what {
            What::AllReduce { bytes } => ("halo", bytes),
            What::Rccl { bytes } => ("RCCL", bytes),
            _ => continue,
        };
        let Some(value) = row.value.filter(|value| *value > 0.0) else { continue };
        let name = format!("{by}, {}, {}-{}", row.path.name(), row.path.ends[0].node, row.path.ends[1].node);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push((bytes as f64, value)),
            None => all.push((name, vec![(bytes as f64, value)])),
        }
    }
    all
}

fn draw(picture: &mut String, series: &[Series]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(picture, (900, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let values = || series.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
    let least = values().fold(f64::INFINITY, f64::min).min(10.0);
    let most = values().fold(0.0, f64::max).max(1000.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("all-reduce of two ranks, median", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((4096.0..134_217_728.0).log_scale(), ((least / 2.0)..(most * 2.0)).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("bytes")
        .y_desc("microseconds")
        .x_label_formatter(&|bytes| binary(*bytes))
        .draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), &colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}

fn binary(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1_048_576.0 => format!("{:.0} MiB", bytes / 1_048_576.0),
        bytes => format!("{:.0} KiB", bytes / 1024.0),
    }
}
