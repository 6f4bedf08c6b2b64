//! The model of docs/scaling.md, fitted to what was measured here: latency and the cost of a byte by least squares, and how
//! far the model that predicts other networks is from every measurement.

use std::fmt::Write as _;
use std::path::Path;

use halo_ccl::{Config, Costs, Exercise, PlanTable};

use crate::driver;
use crate::error::Error;
use crate::line::Work;
use crate::peers::{self, Peer, Place};
use crate::results::{Quantile, Results, median};
use crate::targets::size;

const BEGIN: &str = "<!-- fit -->\n";
const END: &str = "<!-- end of fit -->";

/// Rank counts beyond two that are measured where there are as many processors.
const MORE_RANKS: [usize; 2] = [3, 4];

/// One size: what was measured and what the model says, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Ranks that took part.
    pub ranks: usize,
    /// Bytes of the buffer.
    pub bytes: usize,
    /// Measured.
    pub measured: f64,
    /// By the model.
    pub model: f64,
}

impl Row {
    /// How much more than the measurement the model says, as a fraction of it.
    pub fn error(&self) -> f64 {
        self.model / self.measured - 1.0
    }
}

/// The model of one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Where.
    pub place: Place,
    /// What was found.
    pub costs: Costs,
    /// Every size of two ranks, then what was measured of more.
    pub rows: Vec<Row>,
}

/// The all-reduce that halo does at this size, as the model knows it.
fn exercise(place: Place, ranks: usize, bytes: usize) -> Exercise {
    let transport = match place {
        Place::Shm => "shm",
        Place::Tcp => "tcp",
        _ => "rdma",
    };
    let Config { slot_bytes, slots, .. } = Config::new(0, ranks);
    let algorithm = PlanTable::default().algorithm(ranks, transport, bytes);
    Exercise { algorithm, ranks, bytes, slot_bytes, slots, widening: 2 }
}

impl Fit {
    /// Latency and cost of a byte from times of two ranks: those that make the squares of the relative errors smallest, so
    /// that small sizes count as much as large ones. The reduction's part is taken as known.
    ///
    /// # Errors
    /// Fewer than three sizes: two would be met exactly, whatever they are.
    pub fn of(place: Place, times: &[(usize, f64)]) -> Result<Self, Error> {
        if times.len() < 3 {
            return Err(Error::TooFewSizes { place: place.to_string(), given: times.len() });
        }
        let work = Costs::PER_BYTE_REDUCED;
        // time - work = latency + per_byte * bytes, each line of it divided by the time.
        let (mut ones, mut mixed, mut squares, mut first, mut second) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (bytes, time) in times {
            // Of what is cut in chunks only the last one is reduced when all have arrived.
            let known = work * (*bytes).min(exercise(place, 2, *bytes).slot_bytes) as f64;
            let (one, bytes, rest) = (1.0 / time, *bytes as f64 / time, (time - known) / time);
            ones += one * one;
            mixed += one * bytes;
            squares += bytes * bytes;
            first += one * rest;
            second += bytes * rest;
        }
        let determinant = ones * squares - mixed * mixed;
        let latency = (first * squares - second * mixed) / determinant;
        let per_byte = (second * ones - first * mixed) / determinant;
        let costs = Costs { latency, per_byte, post: 0.0, per_byte_reduced: work };
        let mut fit = Self { place, costs, rows: Vec::new() };
        fit.add(2, times);
        Ok(fit)
    }

    /// Sets times of so many ranks beside what the model says of them.
    pub fn add(&mut self, ranks: usize, times: &[(usize, f64)]) {
        self.rows.extend(times.iter().map(|(bytes, measured)| {
            let model = exercise(self.place, ranks, *bytes).takes(self.costs);
            Row { ranks, bytes: *bytes, measured: *measured, model }
        }));
    }

    fn to_text(&self) -> String {
        let Costs { latency, per_byte, .. } = self.costs;
        let mut text = format!("### {}\n\n", self.place);
        let gigabits = 8.0 / (per_byte * 1e3);
        let typical = median(self.rows.iter().map(|row| row.error().abs())).unwrap_or(0.0);
        let worst = self.rows.iter().map(|row| row.error().abs()).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "Latency {latency:.2} us, {:.3} ns a byte ({gigabits:.3} Gb/s). The model is off by {:.0} % (median), {:.0} % at \
             most.\n",
            per_byte * 1e3,
            typical * 100.0,
            worst * 100.0
        );
        text += "| ranks | size | measured | model | error |\n|---|---|---|---|---|\n";
        for row in &self.rows {
            let Row { ranks, bytes, measured, model } = row;
            let (size, error) = (size(*bytes), row.error() * 100.0);
            let _ = writeln!(text, "| {ranks} | {size} | {measured:.2} us | {model:.2} us | {error:+.0} % |");
        }
        text
    }
}

/// Fits the model to halo's times at every one of these places, and measures more ranks where there are processors for them
/// and `rounds` is not 0.
///
/// # Errors
/// As [`Fit::of`], and ranks that fail.
pub fn fits(results: &Results, places: &[Place], rounds: usize) -> Result<Vec<Fit>, Error> {
    places.iter().map(|place| fit(results, *place, rounds)).collect()
}

fn fit(results: &Results, place: Place, rounds: usize) -> Result<Fit, Error> {
    let quantile = if matches!(place, Place::Shm | Place::Tcp) { Quantile::P50 } else { Quantile::P10 };
    let time = |bytes| Some((bytes, results.time(place, Peer::Halo, bytes, quantile)?));
    let times: Vec<_> = results.sizes(place).into_iter().filter_map(time).collect();
    let mut fit = Fit::of(place, &times)?;
    let transport = match place {
        Place::Shm => "shm",
        Place::Tcp => "tcp",
        _ => return Ok(fit),
    };
    let work: Vec<Work> = times.iter().map(|(bytes, _)| Work::new(*bytes)).collect();
    for ranks in MORE_RANKS.into_iter().filter(|ranks| *ranks <= processors()) {
        let mut measured = Results::default();
        for round in 0..rounds {
            let lines = driver::run("halo", place.name(), &peers::halo(transport, ranks)?, &work)?;
            measured.add(place, Peer::Halo, round, lines);
        }
        let time = |bytes| Some((bytes, measured.time(place, Peer::Halo, bytes, quantile)?));
        fit.add(ranks, &measured.sizes(place).into_iter().filter_map(time).collect::<Vec<_>>());
    }
    Ok(fit)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All fits, as the page holds them.
pub fn section(fits: &[Fit]) -> String {
    let mut text = String::new();
    for fit in fits {
        let _ = writeln!(text, "{}", fit.to_text());
    }
    text
}

/// Writes the section between its marks in a page.
///
/// # Errors
/// A page that cannot be read or written, or that has no marks.
pub fn write(page: &Path, section: &str) -> Result<(), Error> {
    let unwritable = |cause: String| Error::Unwritable { path: page.display().to_string(), cause };
    let old = std::fs::read_to_string(page).map_err(|error| unwritable(error.to_string()))?;
    let parts = old.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = parts else {
        return Err(unwritable(format!("it has no lines `{}` and `{END}`", BEGIN.trim_end())));
    };
    let new = format!("{head}{BEGIN}\n{section}{END}{tail}");
    std::fs::write(page, new).map_err(|error| unwritable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::SIZES;

    fn costs(latency: f64, per_byte: f64) -> Costs {
        Costs { latency, per_byte, post: 0.0, per_byte_reduced: Costs::PER_BYTE_REDUCED }
    }

    fn near(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-6
    }

    fn made_up(costs: Costs, ranks: usize) -> Vec<(usize, f64)> {
        SIZES.iter().map(|bytes| (*bytes, exercise(Place::Tcp, ranks, *bytes).takes(costs))).collect()
    }

    #[test]
    fn a_fit_of_exact_times_gives_the_figures_back_and_foretells_other_rank_counts() {
        for (latency, per_byte) in [(0.3, 0.0004), (5.23, 0.000_158), (68.0, 0.000_444)] {
            let true_costs = costs(latency, per_byte);
            let mut fit = Fit::of(Place::Tcp, &made_up(true_costs, 2)).unwrap();
            assert!(near(fit.costs.latency, latency) && near(fit.costs.per_byte, per_byte), "{fit:?}");
            fit.add(4, &made_up(true_costs, 4));
            assert_eq!(fit.rows.len(), 2 * SIZES.len());
            assert!(fit.rows.iter().all(|row| row.error().abs() < 1e-6), "{fit:?}");
            assert_eq!(exercise(Place::Tcp, 4, 1 << 20).algorithm, halo_ccl::Algorithm::TwoShot);
        }
    }

    #[test]
    fn times_that_are_a_tenth_off_here_and_there_are_not_far_off_as_a_whole() {
        let mut times = made_up(costs(10.0, 0.001), 2);
        for (at, (_, time)) in times.iter_mut().enumerate() {
            *time *= if at % 2 == 0 { 1.1 } else { 0.9 };
        }
        let fit = Fit::of(Place::Shm, &times).unwrap();
        assert!((fit.costs.latency / 10.0 - 1.0).abs() < 0.1, "{fit:?}");
        assert!((fit.costs.per_byte / 0.001 - 1.0).abs() < 0.1, "{fit:?}");
        assert!(fit.rows.iter().all(|row| row.error().abs() < 0.2), "{fit:?}");
    }

    #[test]
    fn two_sizes_are_no_test_of_a_line() {
        let error = Fit::of(Place::TwoMachines, &[(8, 1.0), (8192, 2.0)]).unwrap_err();
        assert!(error.to_string().contains("2 sizes"), "{error}");
    }

    #[test]
    fn the_section_goes_between_its_marks_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        std::fs::write(&page, format!("before\n{BEGIN}old\n{END}\nafter\n")).unwrap();
        let fit = Fit::of(Place::Tcp, &made_up(costs(10.0, 0.001), 2)).unwrap();
        write(&page, &section(&[fit])).unwrap();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(
            text.starts_with("before\n") && text.ends_with("\nafter\n") && !text.contains("old"),
            "{text}"
        );
        assert!(text.contains("Latency 10.00 us, 1.000 ns a byte (8.000 Gb/s)"), "{text}");
        assert!(text.contains("| 2 | 8 KiB | 18.87 us | 18.87 us | +0 % |"), "{text}");
        std::fs::write(&page, "no marks").unwrap();
        assert!(write(&page, "").unwrap_err().to_string().contains("<!-- fit -->"));
    }
}
