//! Replacements of keys by an operator or a test. The local server publishes the new keys before it answers.

use functions::rotate_keys::RotateKeysError;
use identity::keys::rotation::RotationError;
use serde_json::Value;

use crate::files::FileError;
use crate::output::environment;
use crate::platform::Platform;

/// Keys could not be replaced or published.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceKeysError {
    /// Events before the failed one have replaced their keys.
    #[error(transparent)]
    Keys(#[from] RotateKeysError),
    #[error("the new keys cannot be read: {0}; restart the server")]
    Read(#[from] RotationError),
    #[error("the keys were replaced, but the new ones could not be published: {0}; restart the server")]
    Publish(#[from] FileError),
}

/// Handles events of the function `rotate-keys` in order. Then the server knows the new keys, and they are in the files
/// for clients. Returns the answer to the last event.
///
/// # Errors
/// [`ReplaceKeysError`]. The events after a failed one are left out.
pub(crate) async fn replace_keys(
    platform: &Platform,
    events: impl IntoIterator<Item = Value>,
) -> Result<Value, ReplaceKeysError> {
    // Two replacements at once would conflict, and would write the same files.
    let _alone = platform.replacing.lock().await;
    let mut answer = Ok(Value::Null);
    for event in events {
        answer = platform.rotate_keys.handle(event).await;
        if answer.is_err() {
            break;
        }
    }
    // An event before a failed one may have replaced an access key.
    let published = publish(platform).await;
    let answer = answer?;
    published.map(|()| answer)
}

/// A request that is signed with a new key is admitted at once. Without this, the server would look for new keys only
/// some time after the last wrong signature.
async fn publish(platform: &Platform) -> Result<(), ReplaceKeysError> {
    platform.router.service.warm().await;
    Ok(environment::write(platform, &platform.connection_strings().await?)?)
}
