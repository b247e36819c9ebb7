//! A breadth-first search over the reachable states of a model. If a state breaks a promise, the search returns a
//! shortest path to such a state.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{Debug, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A model for the search.
pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;
    type Action: Display;

    fn initial(&self) -> Self::State;

    /// Appends every possible action in `state`, with the state after the action.
    fn actions(&self, state: &Self::State, found: &mut Vec<(Self::Action, Self::State)>);

    /// The representative of all states that differ from `state` in names only.
    fn canonical(&self, state: Self::State) -> Self::State;

    /// The promise that this state breaks, if there is one.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// A bit for each situation that this state shows to be reachable. The search collects the bits.
    fn reports(&self, state: &Self::State) -> u8;
}

/// The result of a search.
pub(crate) struct Found {
    /// The number of states found.
    pub(crate) states: usize,
    /// The bits of all visited states.
    pub(crate) reported: u8,
    /// The first broken promise and a shortest path to it, one line for each action.
    pub(crate) broken: Option<(&'static str, Vec<String>)>,
}

/// Searches until a state breaks a promise or every state was visited.
pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let initial = model.canonical(model.initial());
    // The states in the order of discovery, each with the index of its predecessor.
    let mut states = vec![(initial, 0_u32)];
    let mut known = HashMap::<M::State, (), BuildHasherDefault<ByteHasher>>::default();
    known.insert(initial, ());
    let mut reported = 0;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&(state, _)) = states.get(at) {
        reported |= model.reports(&state);
        if let Some(promise) = model.broken(&state) {
            let broken = Some((promise, path(model, &states, at)));
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

/// The path to a state. It is computed again from the initial state without renaming, so that names stay the same in
/// all lines.
fn path<M: Model>(model: &M, states: &[(M::State, u32)], mut at: usize) -> Vec<String> {
    let mut steps = Vec::new();
    while at != 0 {
        steps.push(states[at].0);
        at = states[at].1 as usize;
    }
    let mut state = model.initial();
    let mut lines = Vec::new();
    for step in steps.into_iter().rev() {
        let mut found = Vec::new();
        model.actions(&state, &mut found);
        let taken = found.into_iter().find(|(_, after)| model.canonical(*after) == step);
        let (action, after) = taken.expect("states that differ in names only have the same actions");
        lines.push(format!("{action:<44}{after:?}"));
        state = after;
    }
    lines
}

/// Hashes small states made of bytes. It is fast even in a build without optimisation.
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

    /// Hashes the discriminant of an enum.
    fn write_isize(&mut self, number: isize) {
        self.write_u8(number.to_le_bytes()[0]);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
