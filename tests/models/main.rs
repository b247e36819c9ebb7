//! Exhaustive models: every interleaving of a small world, searched breadth first.

mod assignments;
mod custom_ids;
mod feed;
mod regeneration;
mod rotation;
mod search;
mod standby;
