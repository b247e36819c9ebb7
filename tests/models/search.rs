//! The search: visits every state a model can reach, nearest first, and shows the shortest way to a
//! state that breaks a promise.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can be searched.
pub(crate) trait Model {
    type State: Copy + Eq + Hash + fmt::Debug;
    type Action: fmt::Display;

    fn initial(&self) -> Self::State;

    /// Appends every state that one action leads to, with the action's name.
    fn actions(&self, from: &Self::State, to: &mut Vec<(Self::Action, Self::State)>);

    /// The one state that stands for all that differ in names only.
    fn canonical(&self, state: Self::State) -> Self::State;

    /// The promise that is broken in this state, if one is.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Bits of what this state shows to be possible; a search collects them.
    fn shows(&self, state: &Self::State) -> u8;
}

/// What a search found.
pub(crate) struct Found {
    pub(crate) states: usize,
    /// All bits shown by any state visited.
    pub(crate) shown: u8,
    /// The first broken promise, and a shortest way there.
    pub(crate) broken: Option<(&'static str, Vec<String>)>,
}

/// Searches until a promise is broken or every state was visited.
pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let initial = model.canonical(model.initial());
    let mut index = HashMap::<M::State, u32, BuildHasherDefault<Fast>>::default();
    // In the order found, each with the index of the state it was found from.
    let mut states = vec![(initial, 0)];
    index.insert(initial, 0);
    let mut shown = 0;
    let mut reached = Vec::new();
    let mut next = 0;
    while let Some(&(state, _)) = states.get(next) {
        shown |= model.shows(&state);
        if let Some(promise) = model.broken(&state) {
            let broken = Some((promise, way(model, &states, next)));
            return Found { states: states.len(), shown, broken };
        }
        reached.clear();
        model.actions(&state, &mut reached);
        for (_, after) in &reached {
            let after = model.canonical(*after);
            if let Entry::Vacant(vacant) = index.entry(after) {
                vacant.insert(u32::try_from(states.len()).expect("fewer than 2^32 states"));
                states.push((after, next));
            }
        }
        next += 1;
    }
    Found { states: states.len(), shown, broken: None }
}

/// The way to a state: its actions are done once more from the start, without renaming anything.
fn way<M: Model>(model: &M, states: &[(M::State, usize)], to: usize) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = to;
    while at != 0 {
        path.push(states[at].0);
        at = states[at].1;
    }
    let mut state = model.initial();
    let mut lines = vec![format!("{:<34}{state:?}", "start")];
    for canonical in path.into_iter().rev() {
        let mut reached = Vec::new();
        model.actions(&state, &mut reached);
        let (action, after) = reached
            .into_iter()
            .find(|(_, after)| model.canonical(*after) == canonical)
            .expect("renaming changes no action");
        state = after;
        lines.push(format!("{action:<34}{state:?}"));
    }
    lines
}

/// A hasher for small states made of bytes: quick where nothing is optimised.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, number: isize) {
        // Discriminants of enums.
        self.write_u8(number.to_le_bytes()[0]);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
