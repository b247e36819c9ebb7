//! Exhaustive models: every interleaving of a small world, searched breadth first.

mod assignments;
mod rotation;
mod search;
