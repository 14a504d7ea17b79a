//! Which of two ways to make a batch durable is cheaper just now.
//!
//! Syncing a whole file system costs one journal commit for any number of new files, but also writes what everybody else has
//! left dirty there: usually nothing, sometimes gigabytes. Syncing each file costs a commit or a flush for each. So both are
//! timed, and the one that promises to be cheaper is taken; the other is tried again now and then, for at most a small share
//! of the time.

use std::time::Duration;

/// How to sync a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The file system as a whole.
    Whole,
    /// Each file and directory by itself.
    Each,
}

/// What the two ways cost lately.
#[derive(Debug)]
pub(super) struct Costs {
    /// One sync of the whole.
    whole: Duration,
    /// One sync of one object.
    each: Duration,
    /// Time spent on the preferred way since the other was last tried.
    spent: Duration,
}

impl Costs {
    /// What a solid-state disk that nobody else uses shows; measured costs replace it within a few syncs.
    pub(super) const fn new() -> Self {
        Self {
            whole: Duration::from_micros(200),
            each: Duration::from_micros(60),
            spent: Duration::ZERO,
        }
    }

    /// The way for a batch of so many objects.
    pub(super) fn choose(&self, objects: u32) -> Way {
        let each = self.each.saturating_mul(objects);
        let (better, other, other_cost) = if self.whole <= each {
            (Way::Whole, Way::Each, each)
        } else {
            (Way::Each, Way::Whole, self.whole)
        };
        if self.spent > other_cost.saturating_mul(TRIAL_SHARE) {
            other
        } else {
            better
        }
    }

    /// Learns from a sync that went well.
    pub(super) fn learn(&mut self, way: Way, objects: u32, took: Duration) {
        let chosen_first = self.whole <= self.each.saturating_mul(objects);
        if chosen_first == (way == Way::Whole) {
            self.spent = self.spent.saturating_add(took);
        } else {
            self.spent = Duration::ZERO;
        }
        match way {
            Way::Whole => self.whole = blend(self.whole, took),
            Way::Each => self.each = blend(self.each, took / objects.max(1)),
        }
    }
}

/// Moves an eighth of the way up, so that one slow sync does not turn the choice over but a few do; and half the way down,
/// because a way that has become cheap again is tried too seldom to learn it slowly.
fn blend(known: Duration, new: Duration) -> Duration {
    let share = if new < known { 2 } else { 8 };
    known - known / share + new / share
}

/// The way that seems dearer gets at most one part in so many of the time.
const TRIAL_SHARE: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs syncs of `objects` at these costs; returns the share of syncs and of time that went to the whole.
    fn run(costs: &mut Costs, objects: u32, whole: Duration, each: Duration) -> (f64, f64) {
        let (mut count, mut total, mut time) = (0, Duration::ZERO, Duration::ZERO);
        for _ in 0..20_000 {
            let way = costs.choose(objects);
            let took = match way {
                Way::Whole => whole,
                Way::Each => each * objects,
            };
            costs.learn(way, objects, took);
            total += took;
            if way == Way::Whole {
                count += 1;
                time += took;
            }
        }
        (
            f64::from(count) / 20_000.0,
            time.as_secs_f64() / total.as_secs_f64(),
        )
    }

    #[test]
    fn the_cheaper_way_gets_nearly_all() {
        let mut costs = Costs::new();
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        // A quiet file system: the whole is cheaper.
        assert!(run(&mut costs, 50, ms(1), us(120)).0 > 0.95);
        // Somebody copies a disk: a sync of the whole takes a second. It is left alone, but for little of the time.
        let (count, time) = run(&mut costs, 50, ms(1000), us(400));
        assert!(count < 0.01 && time < 0.05, "{count} {time}");
        // The copy is done: within minutes the whole is found to be cheap again.
        run(&mut costs, 50, ms(1), us(120));
        assert!(run(&mut costs, 50, ms(1), us(120)).0 > 0.95);
    }
}
