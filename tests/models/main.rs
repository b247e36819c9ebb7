//! Exhaustive models: every interleaving of a small world, searched breadth first.

mod regeneration;
mod rotation;
mod search;
