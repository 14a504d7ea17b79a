//! What a crash does, where more than one thing is possible.

/// Picks among possibilities: at random from a seed, or one after the other until all were had.
///
/// ```
/// use qmail_queue::Choices;
/// let mut every = Choices::every();
/// let mut seen = Vec::new();
/// loop {
///     seen.push((every.choose(2), every.choose(3)));
///     if !every.advance() {
///         break;
///     }
/// }
/// assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Clone, Debug)]
pub struct Choices {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Seeded(u64),
    /// What was chosen among how many, and how far this round is.
    Every(Vec<(usize, usize)>, usize),
}

impl Choices {
    /// Picks at random; the same seed picks the same.
    pub fn seeded(seed: u64) -> Self {
        Self {
            kind: Kind::Seeded(seed),
        }
    }

    /// Picks the first of everything, and after each [`advance`](Choices::advance) what was not picked before.
    pub fn every() -> Self {
        Self {
            kind: Kind::Every(Vec::new(), 0),
        }
    }

    /// Picks a number below `count`; 0 if there is nothing to pick from.
    pub fn choose(&mut self, count: usize) -> usize {
        if count <= 1 {
            return 0;
        }
        match &mut self.kind {
            Kind::Seeded(state) => (split_mix(state) % count as u64) as usize,
            Kind::Every(chosen, at) => {
                if *at == chosen.len() {
                    chosen.push((0, count));
                }
                let (choice, _) = chosen[*at];
                *at += 1;
                choice
            }
        }
    }

    /// Begins the next round; `false` after the last. There is always another random round.
    pub fn advance(&mut self) -> bool {
        let Kind::Every(chosen, at) = &mut self.kind else {
            return true;
        };
        *at = 0;
        while let Some((choice, count)) = chosen.pop() {
            if choice + 1 < count {
                chosen.push((choice + 1, count));
                return true;
            }
        }
        false
    }
}

/// The SplitMix64 generator: small, and good enough to pick crashes.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
