//! The control token: the proof that the caller of the control API can read the state directory.

use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::runtime::Random;
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};

/// The file in the state directory that holds the token.
pub(super) const FILE: &str = "control-token";

/// Length of the token's random part, in bytes.
const LENGTH: usize = 24;

/// The token of one start. No `Debug`: it is secret.
pub(super) struct ControlToken(Zeroizing<String>);

impl ControlToken {
    /// Makes a token and writes it into the state directory, readable by its owner only.
    pub(super) fn create(data_dir: &Path, random: &dyn Random) -> Result<Self, FileError> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        random.fill(bytes.as_mut());
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
        files::replace(&data_dir.join(FILE), token.as_bytes(), Readers::Owner)?;
        Ok(Self(token))
    }

    /// The text, for the link to the console.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the request has exactly one `Authorization` header, and it is `Bearer` with this token.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Ok((scheme, token)) = value.to_str().map(|value| value.split_once(' ').unwrap_or_default())
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer")
            && verify_slices_are_equal(token.as_bytes(), self.0.as_bytes()).is_ok()
    }
}
