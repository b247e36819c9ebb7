//! The command line.
//!
//! | module | owns |
//! |---|---|
//! | [`options`] | the options of the server |
//! | [`environment`] | the options as variables |
//! | [`place`] | the directory without `--data-dir` |
//! | [`serve`] | the server, until a signal |
//! | [`exec`] | a server for one command |
//! | [`verbs`] | the commands about users and tokens, and `env` and `healthcheck` |
//! | [`keys`] | the commands about keys |
//! | [`resource_server`] | the commands about credentials of resource servers |
//! | [`failure`] | exit statuses and messages |
//! | [`signals`] | signals of this process |

pub(crate) mod environment;
pub(crate) mod exec;
pub(crate) mod failure;
pub(crate) mod keys;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod resource_server;
pub(crate) mod serve;
pub(crate) mod signals;
pub(crate) mod verbs;
