//! Runs conformance cases by hand, on this build's programs or on those of another implementation.
//!
//! ```text
//! conform [--bin DIR] [--only PATTERN] [--observe] FILE...
//!     --bin DIR       the programs, under their classic names; without it, those of this build
//!     --only PATTERN  only the cases whose name contains PATTERN
//!     --observe       print what is seen, one line of JSON for each case, whatever is expected:
//!                     how the "expect" of a new case is begun
//! ```
//!
//! Exit code 0 if all cases pass, 1 if one does not, 100 for wrong use.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use qmail_tests::conformance::{Cases, Outcome, Programs};
use serde_json::json;

#[derive(Default)]
struct Arguments {
    bin: Option<PathBuf>,
    only: String,
    observe: bool,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse() else {
        eprintln!("usage: conform [--bin DIR] [--only PATTERN] [--observe] FILE...");
        return ExitCode::from(100);
    };
    match run(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("conform: {error}");
            ExitCode::from(100)
        }
    }
}

fn parse() -> Option<Arguments> {
    let mut parsed = Arguments::default();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--bin") => parsed.bin = Some(words.next()?.into()),
            Some("--only") => parsed.only = words.next()?.into_string().ok()?,
            Some("--observe") => parsed.observe = true,
            Some(option) if option.starts_with("--") => return None,
            _ => parsed.files.push(word.into()),
        }
    }
    (!parsed.files.is_empty()).then_some(parsed)
}

/// Runs all files and returns how many cases failed.
fn run(arguments: &Arguments) -> std::io::Result<usize> {
    let own = std::env::current_exe()?;
    let sibling = |name: &str| own.parent().unwrap_or(Path::new(".")).join(name);
    let helper = sibling("conform-helper");
    let programs = match &arguments.bin {
        Some(directory) => Programs::in_directory(directory, &helper)?,
        None => {
            let names = qmail_cli::applet_names();
            Programs::linked(&sibling("qmail-under-test"), &helper, &names)?
        }
    };
    let mut out = std::io::stdout().lock();
    let (mut passed, mut failed) = (0, 0);
    for file in &arguments.files {
        let cases = Cases::read(file)?;
        if arguments.observe {
            for (name, seen) in cases.observations(&programs, &arguments.only) {
                let line = match seen {
                    Ok(seen) => json!({"name": name, "expect": seen}),
                    Err(why) => json!({"name": name, "error": why}),
                };
                writeln!(out, "{line}")?;
            }
            continue;
        }
        for (name, why, outcome) in cases.run(&programs, &arguments.only).cases {
            match outcome {
                Outcome::Passed => passed += 1,
                Outcome::Skipped(need) => writeln!(out, "skip {name}: needs {need}")?,
                Outcome::Failed(difference) => {
                    failed += 1;
                    write!(out, "FAIL {name}: {why}\n{difference}")?;
                }
            }
        }
    }
    if !arguments.observe {
        writeln!(out, "{passed} passed, {failed} failed")?;
    }
    Ok(failed)
}
