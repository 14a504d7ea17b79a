//! Runs all cases of a file, several at a time, and judges them by the list.

use std::fmt::Write;
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use serde_json::{Map, Value};

use super::case::Case;
use super::difference::differences;
use super::failure::Failure;
use super::list::NotPassing;
use super::machine;
use super::programs::Programs;
use super::run::{Observation, missing, run_case};
use super::scenario::{Scenario, run_scenario};

/// The cases of one file.
#[derive(Debug)]
pub enum Cases {
    /// Of single programs.
    Programs(Vec<Case>),
    /// Of a whole running system.
    Scenarios(Vec<Scenario>),
}

/// What became of a case.
#[derive(Debug)]
pub enum Outcome {
    /// What must be seen was seen.
    Passed,
    /// It was not, or the case came to no result. For people to read.
    Failed(String),
    /// The machine lacks this, so that the case was not run.
    Skipped(String),
}

/// What became of the cases of a file, in their order.
#[derive(Debug, Default)]
pub struct Report {
    /// Name, reason and outcome of each case.
    pub cases: Vec<(String, String, Outcome)>,
}

/// A report judged by the list of what does not pass yet.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many passed and may.
    pub passed: usize,
    /// How many are listed and did not pass.
    pub listed: usize,
    /// How many were not run.
    pub skipped: usize,
    /// What is wrong, for people to read; empty if nothing is.
    pub errors: String,
}

impl Cases {
    /// Reads a file of cases. Those whose steps are listed are scenarios.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a case in it is not understood.
    pub fn read(path: &Path) -> io::Result<Self> {
        let explain = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", path.display()))
        };
        let text = fs::read(path).map_err(|error| explain(&error))?;
        let plain: Vec<Map<String, Value>> =
            serde_json::from_slice(&text).map_err(|error| explain(&error))?;
        // Read again from the text, since the order of the keys matters and `Map` does not keep it.
        if plain.iter().any(|case| case.contains_key("steps")) {
            serde_json::from_slice(&text).map(Self::Scenarios)
        } else {
            serde_json::from_slice(&text).map(Self::Programs)
        }
        .map_err(|error| explain(&error))
    }

    /// The names of the cases, in their order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Programs(cases) => cases.iter().map(|case| case.name.as_str()).collect(),
            Self::Scenarios(cases) => cases.iter().map(|case| case.name.as_str()).collect(),
        }
    }

    /// Runs the cases whose name contains `only`, several at a time.
    pub fn run(&self, programs: &Programs, only: &str) -> Report {
        let mut cases = self.observe(programs, only).into_iter();
        let cases = cases.by_ref().map(|(name, why, seen)| {
            let outcome = match seen {
                Seen::Lacking(need) => Outcome::Skipped(need),
                Seen::Nothing(failure) => Outcome::Failed(format!("  {failure}\n")),
                Seen::Something(expected, seen) => match differences(expected, &seen) {
                    text if text.is_empty() => Outcome::Passed,
                    text => Outcome::Failed(text),
                },
            };
            (name.to_owned(), why.to_owned(), outcome)
        });
        Report {
            cases: cases.collect(),
        }
    }

    /// Runs the cases whose name contains `only` and returns what was seen of each, whatever was expected.
    ///
    /// # Errors
    ///
    /// Of a case that came to no result: why.
    pub fn observations(
        &self,
        programs: &Programs,
        only: &str,
    ) -> Vec<(&str, Result<Observation, String>)> {
        self.observe(programs, only)
            .into_iter()
            .map(|(name, _, seen)| {
                let seen = match seen {
                    Seen::Lacking(need) => Err(format!("needs {need}")),
                    Seen::Nothing(failure) => Err(failure.to_string()),
                    Seen::Something(_, seen) => Ok(seen),
                };
                (name, seen)
            })
            .collect()
    }

    fn observe(&self, programs: &Programs, only: &str) -> Vec<(&str, &str, Seen<'_>)> {
        match self {
            Self::Programs(cases) => {
                let cases: Vec<_> = (cases.iter())
                    .filter(|case| case.name.contains(only))
                    .collect();
                in_parallel(&cases, |case| {
                    // A program that is not there fails on every machine, whatever else a machine lacks.
                    let seen = if machine::lacks_python(case) {
                        Seen::Lacking("python3".to_owned())
                    } else if let Some(failure) = missing(case, programs) {
                        Seen::Nothing(failure)
                    } else if let Some(need) = machine::lacking(case) {
                        Seen::Lacking(need)
                    } else {
                        Seen::new(&case.expect, run_case(case, programs))
                    };
                    (case.name.as_str(), case.why.as_str(), seen)
                })
            }
            Self::Scenarios(cases) => {
                let cases: Vec<_> = (cases.iter())
                    .filter(|case| case.name.contains(only))
                    .collect();
                in_parallel(&cases, |case| {
                    let seen = Seen::new(&case.expect, run_scenario(case, programs));
                    (case.name.as_str(), case.why.as_str(), seen)
                })
            }
        }
    }
}

/// What was seen of a case.
enum Seen<'a> {
    Lacking(String),
    Nothing(Failure),
    Something(&'a Map<String, Value>, Observation),
}

impl<'a> Seen<'a> {
    fn new(expected: &'a Map<String, Value>, seen: Result<Observation, Failure>) -> Self {
        match seen {
            Ok(seen) => Self::Something(expected, seen),
            Err(failure) => Self::Nothing(failure),
        }
    }
}

impl Report {
    /// Judges the cases by the list.
    pub fn judge(&self, list: &NotPassing) -> Verdict {
        let mut verdict = Verdict::default();
        for (name, why, outcome) in &self.cases {
            match (outcome, list.contains(name)) {
                (Outcome::Passed, false) => verdict.passed += 1,
                (Outcome::Failed(_), true) => verdict.listed += 1,
                (Outcome::Skipped(_), _) => verdict.skipped += 1,
                (Outcome::Passed, true) => {
                    let _ = writeln!(
                        verdict.errors,
                        "PASS {name}: it is listed as not passing; take it out of the list"
                    );
                }
                (Outcome::Failed(difference), false) => {
                    let _ = write!(verdict.errors, "FAIL {name}: {why}\n{difference}");
                }
            }
        }
        verdict
    }

    /// Makes the list say what this report says. A case that was skipped keeps its place.
    pub fn update(&self, list: &mut NotPassing) {
        for (name, _, outcome) in &self.cases {
            match outcome {
                Outcome::Passed => list.set(name, false),
                Outcome::Failed(_) => list.set(name, true),
                Outcome::Skipped(_) => {}
            }
        }
    }

    /// What the machine lacked, with the number of cases that were skipped for it, sorted.
    pub fn lacking(&self) -> Vec<(&str, usize)> {
        let mut needs = std::collections::BTreeMap::new();
        for (_, _, outcome) in &self.cases {
            if let Outcome::Skipped(need) = outcome {
                *needs.entry(need.as_str()).or_default() += 1;
            }
        }
        needs.into_iter().collect()
    }
}

/// How many cases run at a time for each processor: most of them wait for something.
const JOBS_PER_PROCESSOR: usize = 4;

/// How many cases run at a time in this process, whichever file they are from: `CONFORM_JOBS`, or by the processors.
fn jobs() -> usize {
    let asked = std::env::var("CONFORM_JOBS").ok();
    asked
        .and_then(|jobs| jobs.parse().ok())
        .filter(|&jobs| jobs > 0)
        .unwrap_or_else(|| {
            JOBS_PER_PROCESSOR * thread::available_parallelism().map_or(1, NonZero::get)
        })
}

/// Applies `work` to each item, as many at a time as [`jobs`] says, and returns the results in the order of the items.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..jobs().min(items.len()) {
            scope.spawn(|| {
                while let Some((item, done)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    items.get(at).zip(done.get(at))
                } {
                    let _permit = Permit::acquire();
                    let result = work(item);
                    *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    done.into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

/// The right to run one case. All files share them, since tests of several files run at a time.
struct Permit;

static RUNNING: Mutex<usize> = Mutex::new(0);
static RETURNED: Condvar = Condvar::new();

impl Permit {
    fn acquire() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = RETURNED
            .wait_while(running, |running| *running >= jobs())
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RETURNED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cases: Vec<(&str, Outcome)>) -> Report {
        Report {
            cases: (cases.into_iter())
                .map(|(name, outcome)| (name.to_owned(), "why".to_owned(), outcome))
                .collect(),
        }
    }

    #[test]
    fn keeps_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(in_parallel(&items, |item| item * 2)[99], 198);
        assert!(in_parallel(&[], |item: &usize| *item).is_empty());
    }

    #[test]
    fn judges_by_the_list() {
        let failed = || Outcome::Failed("  exit:\n".to_owned());
        let report = report(vec![
            ("a/passes", Outcome::Passed),
            ("a/fails", failed()),
            ("b/listed-passes", Outcome::Passed),
            ("b/listed-fails", failed()),
            ("b/listed-skipped", Outcome::Skipped("root".to_owned())),
            ("c/skipped", Outcome::Skipped("root".to_owned())),
        ]);
        let mut list =
            NotPassing::parse("b/listed-fails\nb/listed-passes\nb/listed-skipped\n").unwrap();
        let verdict = report.judge(&list);
        assert_eq!((verdict.passed, verdict.listed, verdict.skipped), (1, 1, 2));
        assert_eq!(
            verdict.errors,
            "FAIL a/fails: why\n  exit:\n\
            PASS b/listed-passes: it is listed as not passing; take it out of the list\n"
        );
        assert_eq!(report.lacking(), [("root", 2)]);

        report.update(&mut list);
        assert_eq!(
            list.names().collect::<Vec<_>>(),
            ["a/fails", "b/listed-fails", "b/listed-skipped"]
        );
        assert_eq!(report.judge(&list).errors, "");
    }
}
