//! The text of an error with its causes.

use std::error::Error;

/// An error and its causes in one line, separated by `: `. A cause that a message already contains is not repeated.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum SampleError {
        #[error("the file cannot be read")]
        Silent(#[source] io::Error),
        #[error("the state: {0}")]
        Quoting(#[source] Box<SampleError>),
    }

    #[test]
    fn every_cause_appears_once() {
        let silent = SampleError::Silent(io::Error::other("the disk is gone"));
        assert_eq!(error_chain(&silent), "the file cannot be read: the disk is gone");
        let quoting = SampleError::Quoting(Box::new(silent));
        assert_eq!(error_chain(&quoting), "the state: the file cannot be read: the disk is gone");
    }
}
