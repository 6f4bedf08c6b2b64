//! Latency and bus bandwidth against size, one picture per place.

use std::path::Path;

use plotters::prelude::*;

use crate::error::Error;
use crate::peers::{Peer, Place};
use crate::results::{Quantile, Results, bus_bandwidth};
use crate::targets::size;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 520;

/// Sizes and a figure of each, of one peer.
type Curve = (Peer, Vec<(f64, f64)>);

/// Draws what was measured at a place as SVG.
///
/// # Errors
/// The file cannot be written.
pub fn draw(
    results: &Results,
    place: Place,
    peers: &[Peer],
    quantile: Quantile,
    path: &Path,
) -> Result<(), Error> {
    let curve = |peer: &Peer, figure: &dyn Fn(usize, f64) -> f64| -> Curve {
        let point = |bytes: usize| {
            let time = results.time(place, *peer, bytes, quantile)?;
            Some((bytes as f64, figure(bytes, time)))
        };
        (*peer, results.sizes(place).into_iter().filter_map(point).collect())
    };
    let latency: Vec<Curve> = peers.iter().map(|peer| curve(peer, &|_, time| time)).collect();
    let bandwidth: Vec<Curve> = peers.iter().map(|peer| curve(peer, &bus_bandwidth)).collect();

    let area = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    let done = area.fill(&WHITE).map_err(|error| error.to_string()).and_then(|()| {
        let (left, right) = area.split_horizontally(WIDTH / 2);
        chart(&left, &format!("{place}: time of {}", place.operation()), "us", &latency)?;
        chart(&right, &format!("{place}: bandwidth each way"), "GB/s", &bandwidth)?;
        area.present().map_err(|error| error.to_string())
    });
    done.map_err(|cause| Error::Unwritable { path: path.display().to_string(), cause })
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    unit: &str,
    curves: &[Curve],
) -> Result<(), String> {
    let told = |error: DrawingAreaErrorKind<_>| error.to_string();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let Some(x) = range(points().map(|(x, _)| *x)) else { return Ok(()) };
    let Some(y) = range(points().map(|(_, y)| *y)) else { return Ok(()) };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((x.0..x.1).log_scale().base(2.0), (y.0..y.1).log_scale())
        .map_err(told)?;
    chart
        .configure_mesh()
        .x_desc("bytes per rank")
        .y_desc(unit)
        .x_label_formatter(&|bytes| size(*bytes as usize))
        .draw()
        .map_err(told)?;
    for (peer, points) in curves.iter().filter(|(_, points)| !points.is_empty()) {
        let (style, width) = style(*peer);
        let legend = style.stroke_width(width);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), legend).point_size(2 + width))
            .map_err(told)?
            .label(peer.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], legend));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(told)
}

/// halo stands out, the floor is grey.
fn style(peer: Peer) -> (RGBColor, u32) {
    match peer {
        Peer::Halo => (RGBColor(200, 30, 30), 3),
        Peer::OpenMpi => (RGBColor(30, 90, 180), 1),
        Peer::Mpich => (RGBColor(20, 140, 100), 1),
        Peer::Gloo => (RGBColor(200, 130, 0), 1),
        Peer::Floor | Peer::IbWriteLat => (RGBColor(120, 120, 120), 2),
        Peer::Exchange => (RGBColor(175, 165, 190), 2),
        Peer::ExchangeSum => (RGBColor(170, 125, 190), 2),
        Peer::ExchangeZerocopy => (RGBColor(130, 150, 60), 1),
        Peer::ExchangeUring => (RGBColor(60, 150, 170), 1),
        Peer::FabricWrite | Peer::ExchangeFlagSum => (RGBColor(120, 60, 150), 2),
        Peer::IbWriteBw | Peer::IbWriteBwOneWay | Peer::Iperf3 => (RGBColor(60, 60, 60), 2),
    }
}

fn range(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let least = values.clone().min_by(f64::total_cmp)?;
    let most = values.max_by(f64::total_cmp)?;
    Some((least * 0.8, most * 1.25))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;

    #[test]
    fn a_picture_holds_a_curve_for_everybody_who_was_measured() {
        let mut results = Results::default();
        for peer in [Peer::Halo, Peer::Floor] {
            let line = |bytes| Line {
                bytes,
                dtype: "bf16".to_owned(),
                p10_us: 1.0,
                p50_us: bytes as f64 / 8.0,
                allocations: None,
                copied: None,
            };
            results.add(Place::Shm, peer, 0, [8, 8192, 65536].map(line).to_vec());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shm.svg");
        draw(&results, Place::Shm, &[Peer::Halo, Peer::Gloo, Peer::Floor], Quantile::P50, &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("halo") && svg.contains("floor") && !svg.contains("Gloo"), "{svg}");
        assert!(svg.contains("bandwidth each way") && svg.matches("<polyline").count() >= 4, "{svg}");
        let nowhere = folder.path().join("no/shm.svg");
        let error = draw(&results, Place::Shm, &[Peer::Halo], Quantile::P50, &nowhere).unwrap_err();
        assert!(matches!(error, Error::Unwritable { .. }), "{error}");
    }
}
