//! Exhaustive models: every interleaving of a small world, searched breadth first.

<<<<<<< HEAD
mod regeneration;
=======
mod assignments;
>>>>>>> main
mod rotation;
mod search;
