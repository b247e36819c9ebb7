//! The local resource, kept in `resource.json`. The first start creates it. Tokens name it, so it never changes.

use std::path::{Path, PathBuf};

use identity::ids::ResourceId;
use identity::keys::Algorithm;
use identity::runtime::Random;
use identity::settings::{Issuer, Location, Resource};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Readers};
use crate::state::{PUBLISHED_RESOURCE, RESOURCE, StateKind};

/// The resource, with the signature algorithm of its tokens.
#[derive(Clone)]
pub struct LocalResource {
    pub resource: Resource,
    pub algorithm: Algorithm,
}

/// The choices for a new resource.
#[derive(Default)]
pub struct Choices {
    pub algorithm: Option<Algorithm>,
    pub location: Option<Location>,
    pub region: Option<Location>,
}

/// The resource cannot be read, created or used with the given choices.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{} is not a resource of this program; restore the file, or remove its directory to start with a new resource",
        .0.display()
    )]
    Content(PathBuf),
    #[error(
        "{} has the {choice} {kept}, but --{choice} is {given}; leave out --{choice}, or choose another --data-dir",
        path.display()
    )]
    Differs { path: PathBuf, choice: &'static str, kept: String, given: String },
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    id: String,
    issuer: String,
    location: String,
    region: String,
    algorithm: Algorithm,
}

/// Reads `resource.json` in `dir`. Without the file, makes a resource with the issuer `https://localhost:<port>`, and
/// keeps it there unless the state is in memory.
///
/// # Errors
/// [`ResourceError`].
pub fn open(
    dir: &Path,
    state: StateKind,
    https_port: u16,
    choices: &Choices,
    random: &dyn Random,
) -> Result<LocalResource, ResourceError> {
    let path = dir.join(RESOURCE);
    let kept = if state.is_in_memory() { None } else { files::read(&path)? };
    let document = match kept {
        Some(text) => {
            let kept = serde_json::from_slice(&text).map_err(|_| ResourceError::Content(path.clone()))?;
            check_choices(&path, &kept, choices)?;
            kept
        }
        None => {
            let made = create(state, https_port, choices, random);
            if !state.is_in_memory() {
                files::replace_json(&path, &made, Readers::Owner)?;
            }
            made
        }
    };
    parse(&document).ok_or(ResourceError::Content(path))
}

fn create(state: StateKind, https_port: u16, choices: &Choices, random: &dyn Random) -> Document {
    let id = if state == StateKind::Published { PUBLISHED_RESOURCE } else { random.guid() };
    let chosen = |location: &Option<Location>, default: &str| {
        location.as_ref().map_or_else(|| default.to_owned(), |location| location.as_str().to_owned())
    };
    Document {
        id: ResourceId::new(id).to_string(),
        issuer: format!("https://localhost:{https_port}"),
        location: chosen(&choices.location, "unitedstates"),
        region: chosen(&choices.region, "amer"),
        algorithm: choices.algorithm.unwrap_or(Algorithm::Rs256),
    }
}

fn check_choices(path: &Path, kept: &Document, choices: &Choices) -> Result<(), ResourceError> {
    let choices = [
        ("algorithm", kept.algorithm.as_str(), choices.algorithm.map(|algorithm| algorithm.as_str())),
        ("location", &kept.location, choices.location.as_ref().map(Location::as_str)),
        ("region", &kept.region, choices.region.as_ref().map(Location::as_str)),
    ];
    for (choice, kept, given) in choices {
        if let Some(given) = given.filter(|given| *given != kept) {
            let (path, kept, given) = (path.to_owned(), kept.to_owned(), given.to_owned());
            return Err(ResourceError::Differs { path, choice, kept, given });
        }
    }
    Ok(())
}

fn parse(document: &Document) -> Option<LocalResource> {
    let issuer: Issuer = document.issuer.parse().ok()?;
    let resource = Resource {
        id: document.id.parse().ok()?,
        issuer,
        location: document.location.parse().ok()?,
        region: document.region.parse().ok()?,
        scope_claim: true,
    };
    Some(LocalResource { resource, algorithm: document.algorithm })
}
