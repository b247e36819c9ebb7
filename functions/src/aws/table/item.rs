//! Items of the tables: their keys, the answer of a batch, and their attributes.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use aws_smithy_types::error::operation::BuildError;
use identity::store::StoreError;

/// The attributes of an item.
pub type Item = HashMap<String, AttributeValue>;

/// The table and the primary key of an item.
#[derive(Clone)]
pub(super) struct ItemKey {
    pub(super) table: String,
    pub(super) pk: String,
    /// `None` in the state table.
    pub(super) sk: Option<String>,
}

/// The items of one read, by `pk` and `sk`. The first part of `pk` is another one in each table.
#[derive(Default)]
pub(super) struct Found(HashMap<(String, Option<String>), Item>);

impl Found {
    pub(super) fn insert(&mut self, item: Item) -> Result<(), StoreError> {
        let pk = text(&item, "pk")?.to_owned();
        let sk = item.get("sk").map(|_| text(&item, "sk").map(str::to_owned)).transpose()?;
        self.0.insert((pk, sk), item);
        Ok(())
    }

    pub(super) fn item(&self, key: &ItemKey) -> Option<&Item> {
        self.0.get(&(key.pk.clone(), key.sk.clone()))
    }
}

impl ItemKey {
    pub(super) fn attributes(&self) -> Item {
        let sk = self.sk.as_ref().map(|sk| ("sk".to_owned(), AttributeValue::S(sk.clone())));
        std::iter::once(("pk".to_owned(), AttributeValue::S(self.pk.clone()))).chain(sk).collect()
    }
}

/// The parameter of a batch read: the keys of each table.
pub(super) fn requests(keys: &[ItemKey]) -> Result<HashMap<String, KeysAndAttributes>, BuildError> {
    let mut by_table: HashMap<String, Vec<Item>> = HashMap::new();
    for key in keys {
        by_table.entry(key.table.clone()).or_default().push(key.attributes());
    }
    let request = |(table, keys)| {
        let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
        Ok((table, request.build()?))
    };
    by_table.into_iter().map(request).collect()
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn text<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, StoreError> {
    match item.get(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(StoreError::Corrupt(name)),
    }
}

pub(super) fn integer<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, StoreError> {
    match item.get(name) {
        Some(AttributeValue::N(digits)) => digits.parse().map_err(|_| StoreError::Corrupt(name)),
        _ => Err(StoreError::Corrupt(name)),
    }
}
