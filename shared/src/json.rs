//! The reader of JSON objects from outside.
//!
//! Tokens and documents are read strictly. Request bodies are read as ASP.NET reads them
//! (docs/wire-contract.md#formats): [`Loose`], [`without_mark`], [`integer`].

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Value;

/// Accepts JSON objects only. Serde alone would also accept an array and read the fields by position.
pub(crate) struct Object<T>(pub(crate) T);

/// As [`Object`], for a request body: the names of members have any letter case. Two members whose names differ only in
/// case are a duplicate.
pub(crate) struct Loose<T>(pub(crate) T);

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

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(LooseMembers(value)) = Object::deserialize(deserializer)?;
        Ok(Self(value))
    }
}

/// A struct that is read from members in any letter case.
struct LooseMembers<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for LooseMembers<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(AnyCase(deserializer)).map(Self)
    }
}

/// A deserializer that gives the members of a struct the names of its fields.
struct AnyCase<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AnyCase<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Renaming { fields, inner: visitor })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A visitor, or the members that it visits, with the names of these fields.
struct Renaming<I> {
    fields: &'static [&'static str],
    inner: I,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Renaming<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Renaming { fields: self.fields, inner: members })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Renaming<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(name) = self.inner.next_key::<String>()? else { return Ok(None) };
        let field = self.fields.iter().find(|field| field.eq_ignore_ascii_case(&name));
        let name = field.map_or(name.as_str(), |field| field);
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// The text without one byte-order mark at its start, which a reader may ignore (RFC 8259 section 8.1).
pub(crate) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)
}

/// An integer, or a string of decimal digits. `None` for any other value and for an integer beyond 64 bits.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok()
        }
        value => value.as_i64(),
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

/// Reads `T` from a request body: [`object`] with member names in any letter case.
pub(crate) fn loose_object<T: for<'de> Deserialize<'de>>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json).map(|Loose(value)| value)
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
