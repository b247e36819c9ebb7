//! What the local resource is. Made on the first start and kept: tokens name it, so it must not change.

use std::path::{Path, PathBuf};

use identity::ids::ResourceId;
use identity::keys::Algorithm;
use identity::runtime::Random;
use identity::settings::{Issuer, Location, Resource};
use serde::{Deserialize, Serialize};
use uuid::Builder;

use crate::files::{self, FileError, Readers};

/// The resource with the choices that were made for it.
#[derive(Clone)]
pub struct LocalResource {
    pub resource: Resource,
    pub algorithm: Algorithm,
}

/// What may be chosen for a new resource.
#[derive(Default)]
pub struct Choices {
    pub algorithm: Option<Algorithm>,
    pub location: Option<Location>,
    pub region: Option<Location>,
}

/// The resource cannot be read, made or used as asked.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a resource this program wrote; restore it, or remove the directory to start anew", .0.display())]
    Content(PathBuf),
    #[error("{}: the resource there was made with another {choice}; leave the option out, or use another --data-dir", path.display())]
    Differs { path: PathBuf, choice: &'static str },
}

pub(crate) const FILE: &str = "resource.json";

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    id: String,
    issuer: String,
    location: String,
    region: String,
    algorithm: Algorithm,
}

/// Reads `resource.json` in `dir`, or makes a resource that is issued under `https://localhost:<port>`.
///
/// # Errors
/// [`ResourceError`].
pub fn open(
    dir: &Path,
    https_port: u16,
    choices: &Choices,
    random: &dyn Random,
) -> Result<LocalResource, ResourceError> {
    let path = dir.join(FILE);
    let document = match files::read(&path)? {
        Some(text) => {
            let kept = serde_json::from_slice(&text).map_err(|_| ResourceError::Content(path.clone()))?;
            unchanged(&path, &kept, choices)?;
            kept
        }
        None => {
            let made = make(https_port, choices, random);
            files::replace_json(&path, &made, Readers::Owner)?;
            made
        }
    };
    parse(&document).ok_or(ResourceError::Content(path))
}

fn make(https_port: u16, choices: &Choices, random: &dyn Random) -> Document {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let chosen = |location: &Option<Location>, default: &str| {
        location.as_ref().map_or_else(|| default.to_owned(), |location| location.as_str().to_owned())
    };
    Document {
        id: ResourceId::new(Builder::from_random_bytes(bytes).into_uuid()).to_string(),
        issuer: format!("https://localhost:{https_port}"),
        location: chosen(&choices.location, "unitedstates"),
        region: chosen(&choices.region, "amer"),
        algorithm: choices.algorithm.unwrap_or(Algorithm::Rs256),
    }
}

fn unchanged(path: &Path, kept: &Document, choices: &Choices) -> Result<(), ResourceError> {
    let differs = |choice| Err(ResourceError::Differs { path: path.to_owned(), choice });
    if choices.algorithm.is_some_and(|algorithm| algorithm != kept.algorithm) {
        return differs("algorithm");
    }
    if choices.location.as_ref().is_some_and(|location| location.as_str() != kept.location) {
        return differs("location");
    }
    if choices.region.as_ref().is_some_and(|region| region.as_str() != kept.region) {
        return differs("region");
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
    };
    Some(LocalResource { resource, algorithm: document.algorithm })
}
