//! Exhaustive models: every interleaving of a small world, searched breadth first.

mod rotation;
mod search;
