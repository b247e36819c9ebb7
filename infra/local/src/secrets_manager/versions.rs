//! Versions of a secret and the staging labels on them: the rules, and the state that they keep.
//!
//! This module owns the effect of a change on a secret. It uses no wire format, file, clock or randomness.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ServiceError, error, invalid_parameter, invalid_request, not_found};

pub(super) const CURRENT: &str = "AWSCURRENT";
pub(super) const PREVIOUS: &str = "AWSPREVIOUS";
pub(super) const PENDING: &str = "AWSPENDING";
/// Limit of the staging labels on all versions of one secret.
const LABEL_LIMIT: usize = 20;

/// The text of a secret, wiped when its last owner drops it. It has no `Debug`, so no type that contains it has one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SecretText(Arc<Zeroizing<String>>);

impl SecretText {
    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// All secrets. A clone shares the values.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Secrets(Vec<Secret>);

impl Secrets {
    /// The secret with the name or the ARN `id`.
    pub(super) fn find(&self, id: &str) -> Option<&Secret> {
        self.0.iter().find(|secret| secret.is(id))
    }

    /// The secret with the name or the ARN `id`, to change it.
    pub(super) fn find_mut(&mut self, id: &str) -> Option<&mut Secret> {
        self.0.iter_mut().find(|secret| secret.is(id))
    }

    /// Adds a secret. Its name must not be in use.
    pub(super) fn add(&mut self, secret: Secret) {
        self.0.push(secret);
    }
}

/// One secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Secret {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) description: Option<String>,
    /// Seconds since 1970, like every time here.
    pub(super) created: i64,
    pub(super) changed: i64,
    pub(super) rotation_enabled: bool,
    versions: BTreeMap<String, Version>,
    /// The holder of each label.
    labels: BTreeMap<String, String>,
}

/// One version of a secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Version {
    /// Absent in the placeholder that the start of a rotation makes.
    pub(super) value: Option<SecretText>,
    pub(super) created: i64,
}

impl Secret {
    /// A secret without a version.
    pub(super) fn new(name: String, arn: String, description: Option<String>, now: i64) -> Self {
        Self {
            name,
            arn,
            description,
            created: now,
            changed: now,
            rotation_enabled: false,
            versions: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    fn is(&self, id: &str) -> bool {
        self.name == id || self.arn == id
    }

    /// The version with this id.
    pub(super) fn version(&self, id: &str) -> Option<&Version> {
        self.versions.get(id)
    }

    /// The holder of `label`.
    pub(super) fn version_with(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }

    /// The labels on version `id`, in order.
    pub(super) fn labels_of(&self, id: &str) -> Vec<&str> {
        self.labels.iter().filter(|(_, version)| *version == id).map(|(label, _)| label.as_str()).collect()
    }

    /// Every version with its id, in the order of the ids.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, &Version)> {
        self.versions.iter().map(|(id, it)| (id.as_str(), it))
    }

    /// Stores `value` as the version `token` and puts `labels` on it, or `AWSCURRENT` if `labels` is empty. The first
    /// version of a secret is always `AWSCURRENT`. A repeat with the same value changes nothing.
    ///
    /// # Errors
    /// `ResourceExistsException` when the version has another value.
    pub(super) fn put(
        &mut self,
        token: &str,
        value: SecretText,
        labels: &[String],
        now: i64,
    ) -> Result<(), ServiceError> {
        let first = self.versions.is_empty();
        match self.versions.get_mut(token) {
            Some(version) => match &version.value {
                Some(stored) if *stored == value => return Ok(()),
                Some(_) => return Err(other_value(token)),
                None => version.value = Some(value),
            },
            None => {
                self.add_version(token, Some(value), now);
                // A new version by hand abandons the rotation in progress.
                self.labels.remove(PENDING);
            }
        }
        for label in labels {
            self.attach(label, token);
        }
        if first || labels.is_empty() {
            self.attach(CURRENT, token);
        }
        self.complete(now)
    }

    /// Moves `label` from one version to another, or adds or removes it.
    ///
    /// # Errors
    /// `InvalidParameterException` if `from` is not the holder, if `from` is absent although a third version is the
    /// holder, if `to` does not exist, if both are absent, or if `AWSCURRENT` would be on no version.
    /// `InvalidRequestException` if `AWSCURRENT` would be on a version without a value.
    pub(super) fn move_label(
        &mut self,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
        now: i64,
    ) -> Result<(), ServiceError> {
        check_move(label, self.version_with(label), from, to)?;
        match to {
            None => {
                self.labels.remove(label);
            }
            Some(to) => {
                let version = self.version(to).ok_or_else(|| {
                    invalid_parameter(format!("Version {to} in MoveToVersionId does not exist."))
                })?;
                // AWS does not document a current version without a value.
                if label == CURRENT && version.value.is_none() {
                    let message = format!("Version {to} has no value to become {CURRENT}.");
                    return Err(invalid_request(message));
                }
                self.attach(label, to);
                if label == CURRENT && self.version_with(PENDING) == Some(to) {
                    self.labels.remove(PENDING);
                }
            }
        }
        self.complete(now)
    }

    /// Makes the version `token`, without a value, `AWSPENDING`, and turns rotation on.
    ///
    /// # Errors
    /// `InvalidRequestException` if a rotation is in progress: `AWSPENDING` is on a version that is not `AWSCURRENT`.
    /// `ResourceExistsException` if `token` is a version.
    pub(super) fn begin_rotation(&mut self, token: &str, now: i64) -> Result<(), ServiceError> {
        let pending = self.version_with(PENDING);
        if pending.is_some() && pending != self.version_with(CURRENT) {
            return Err(invalid_request("A previous rotation isn't complete."));
        }
        if self.version(token).is_some() {
            return Err(other_value(token));
        }
        self.add_version(token, None, now);
        self.attach(PENDING, token);
        self.rotation_enabled = true;
        self.complete(now)
    }

    fn add_version(&mut self, id: &str, value: Option<SecretText>, created: i64) {
        self.versions.insert(id.to_owned(), Version { value, created });
    }

    /// Puts `label` on version `id`, from any holder. The version that loses `AWSCURRENT` becomes `AWSPREVIOUS`.
    fn attach(&mut self, label: &str, id: &str) {
        let former = self.labels.insert(label.to_owned(), id.to_owned());
        if let Some(former) = former.filter(|former| label == CURRENT && former != id) {
            self.labels.insert(PREVIOUS.to_owned(), former);
        }
    }

    /// Ends every change: counts the labels, and deletes the versions without a label. AWS may delete such versions at any
    /// time, so here they are deleted at once.
    fn complete(&mut self, now: i64) -> Result<(), ServiceError> {
        if self.labels.len() > LABEL_LIMIT {
            let message = format!("A secret can have at most {LABEL_LIMIT} staging labels.");
            return Err(error("LimitExceededException", message));
        }
        let labels = &self.labels;
        self.versions.retain(|id, _| labels.values().any(|holder| holder == id));
        self.changed = now;
        Ok(())
    }
}

/// Whether `label`, now on version `holder`, may move `from` a version `to` another one.
fn check_move(
    label: &str,
    holder: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(), ServiceError> {
    Err(invalid_parameter(match (holder, from, to) {
        (_, None, None) => "Give RemoveFromVersionId, MoveToVersionId or both.".to_owned(),
        (_, _, None) if label == CURRENT => {
            format!("{CURRENT} can move to another version but not be removed.")
        }
        (Some(holder), None, Some(to)) if holder != to => {
            format!("{label} is on version {holder}: name that version in RemoveFromVersionId.")
        }
        (_, Some(from), _) if holder != Some(from) => {
            format!("{label} is not on version {from}, which RemoveFromVersionId names.")
        }
        _ => return Ok(()),
    }))
}

fn other_value(token: &str) -> ServiceError {
    let message = format!("Version {token} exists already, and no version can be changed.");
    error("ResourceExistsException", message)
}

/// The answer for a secret that does not exist.
pub(super) fn no_secret() -> ServiceError {
    not_found("Secrets Manager can't find the specified secret.")
}
