//! `emulated PROGRAM [ARGUMENT]...`: runs a statically linked test program on an emulated processor with AVX-512. Cargo
//! takes it as the `runner` of a target; its exit status is the program's.

mod bochs;
mod error;
mod image;
mod kernel;
mod tools;

use std::path::Path;
use std::process::ExitCode;

use error::Error;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: emulated PROGRAM [ARGUMENT]...");
        return ExitCode::FAILURE;
    };
    match run(Path::new(&program), &arguments.collect::<Vec<_>>()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("emulated: {program}: {error}");
            if let Error::Fetch(error) = &error
                && let Some(help) = miette::Diagnostic::help(error)
            {
                eprintln!("  help: {help}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The program's exit status, which is 0 only if tests have passed.
fn run(program: &Path, arguments: &[String]) -> Result<u8, Error> {
    tools::check()?;
    let folder = tempfile::tempdir().map_err(Error::step("making a temporary folder"))?;
    image::make(program, arguments, folder.path())?;
    let outcome = bochs::run(folder.path())?;
    if outcome.status == 0 && outcome.passed == 0 {
        return Err(Error::NoTest);
    }
    println!("emulated: status {} after {:.0} s with Bochs", outcome.status, outcome.took.as_secs_f64());
    Ok(outcome.status)
}
