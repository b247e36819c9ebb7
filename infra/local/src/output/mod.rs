//! The texts that people read on the terminal, and the environment files that go with them.
//!
//! | module | owns |
//! |---|---|
//! | [`start_page`] | the page printed at start, and the `env` file |
//! | [`functions_page`] | the page of `platform`, and `platform.env` for the function processes |
//! | [`key_page`] | the answers of the commands about keys |
//! | [`token_page`] | the answer of `token inspect` |

pub mod functions_page;
pub mod key_page;
pub mod start_page;
pub mod token_page;
