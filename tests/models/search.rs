//! The search: visits every state that a model can reach, nearest first, and reports a shortest way to a state that
//! breaks a promise.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{Debug, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A model that can be searched.
pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;
    type Action: Display;

    fn initial(&self) -> Self::State;

    /// Appends every action possible in a state, with the state it leads to.
    fn actions(&self, state: &Self::State, found: &mut Vec<(Self::Action, Self::State)>);

    /// The one state that stands for all states that differ from it in names only.
    fn canonical(&self, state: Self::State) -> Self::State;

    /// The promise that this state breaks, if any.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Bits for the outcomes that this state proves possible. A search collects them.
    fn reports(&self, state: &Self::State) -> u8;
}

/// The result of a search.
pub(crate) struct Found {
    /// The number of states.
    pub(crate) states: usize,
    /// All bits that the visited states reported.
    pub(crate) reported: u8,
    /// The first broken promise and a shortest way there, a line for each action.
    pub(crate) broken: Option<(&'static str, Vec<String>)>,
}

/// Searches until a promise is broken or every state was visited.
pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let initial = model.canonical(model.initial());
    // The states in the order found, each with the place of the one it was found from.
    let mut states = vec![(initial, 0_u32)];
    let mut known = HashMap::<M::State, (), BuildHasherDefault<ByteHasher>>::default();
    known.insert(initial, ());
    let mut reported = 0;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&(state, _)) = states.get(at) {
        reported |= model.reports(&state);
        if let Some(promise) = model.broken(&state) {
            let broken = Some((promise, way(model, &states, at)));
            return Found { states: states.len(), reported, broken };
        }
        model.actions(&state, &mut found);
        let from = u32::try_from(at).expect("fewer than 2^32 states");
        for (_, after) in found.drain(..) {
            let after = model.canonical(after);
            if let Entry::Vacant(entry) = known.entry(after) {
                entry.insert(());
                states.push((after, from));
            }
        }
        at += 1;
    }
    Found { states: states.len(), reported, broken: None }
}

/// The way to a state, repeated from the start without renaming, so that names stay the same along the way.
fn way<M: Model>(model: &M, states: &[(M::State, u32)], mut at: usize) -> Vec<String> {
    let mut stations = Vec::new();
    while at != 0 {
        stations.push(states[at].0);
        at = states[at].1 as usize;
    }
    let mut state = model.initial();
    let mut lines = Vec::new();
    for station in stations.into_iter().rev() {
        let mut found = Vec::new();
        model.actions(&state, &mut found);
        let taken = found.into_iter().find(|(_, after)| model.canonical(*after) == station);
        let (action, after) = taken.expect("states that differ in names only have the same actions");
        lines.push(format!("{action:<44}{after:?}"));
        state = after;
    }
    lines
}

/// Hashes small states made of bytes. It is fast even without optimisation.
#[derive(Default)]
struct ByteHasher(u64);

impl Hasher for ByteHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// The discriminant of an enum.
    fn write_isize(&mut self, number: isize) {
        self.write_u8(number.to_le_bytes()[0]);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
