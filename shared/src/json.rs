//! The reader of JSON objects from outside.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Accepts JSON objects only. Serde alone would also accept an array and read the fields by position.
pub(crate) struct Object<T>(pub(crate) T);

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }

    /// The error does not repeat a text, because it may be long.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Object<T>, E> {
        Err(E::invalid_type(Unexpected::Other("string"), &self))
    }
}

/// The members of a JSON object in their order. A member can be there twice.
#[derive(Default)]
pub(crate) struct Members<T>(pub(crate) Vec<(String, T)>);

struct MembersVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<T> {
    type Value = Members<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// Reads `T` from a text that is exactly one JSON object.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json).map(|Object(value)| value)
}

/// Reads a member that may be absent but not `null`. For `deserialize_with`.
pub(crate) fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    member: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(member).map(Some)
}

/// Texts that are not the object `object`. `array` has the values of `object` in the order of the fields.
#[cfg(test)]
pub(crate) fn malformed(object: &str, array: &str) -> Vec<String> {
    let mut texts =
        ["", " ", "null", "true", "7", "\"text\"", "[]", "{}", "{", "<html></html>", "\u{1f}\u{8b}"]
            .map(str::to_owned)
            .to_vec();
    texts.extend([
        array.to_owned(),
        format!("\t {array}"),
        format!("[{object}]"),
        format!("{object:?}"),
        format!(r#"{{"object":{object}}}"#),
        format!("{object}{object}"),
        format!("{object}x"),
        format!("{object}\0"),
        format!("\u{feff}{object}"),
        object.trim_end_matches('}').to_owned(),
        object.replacen('{', "{,", 1),
        "[".repeat(200),
    ]);
    texts
}
