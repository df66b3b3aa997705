//! The data set of the JSON endpoint: read at the start, put into words for every request.

use std::io;

use serde::{Deserialize, Serialize};

/// The items of /data/dataset.json.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Dataset {
    items: Vec<Item>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Item {
    id: i64,
    name: String,
    category: String,
    price: i64,
    quantity: i64,
    active: bool,
    tags: Vec<String>,
    rating: Rating,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Rating {
    score: i64,
    count: i64,
}

#[derive(Serialize)]
struct Answer<'a> {
    items: Vec<Counted<'a>>,
    count: usize,
}

#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    item: &'a Item,
    total: i64,
}

impl Dataset {
    /// Reads the file; without one there are no items.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub(crate) fn read(path: &str) -> io::Result<Dataset> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("annulet-arena: there is no {path}: /json has no items");
                Ok(Dataset::default())
            }
            Err(error) => Err(error),
        }
    }

    /// The first `count` items with their totals, as JSON.
    pub(crate) fn json(&self, count: usize, factor: i64) -> String {
        let shown = &self.items[..count.min(self.items.len())];
        let total = |item: &Item| item.price.wrapping_mul(item.quantity).wrapping_mul(factor);
        let items = shown.iter().map(|item| Counted { item, total: total(item) }).collect();
        serde_json::to_string(&Answer { items, count: shown.len() }).expect("strings and numbers only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"id":1,"name":"Widget","category":"tools","price":328,"quantity":15,"active":true,
        "tags":["fast","new"],"rating":{"score":48,"count":127}}"#;

    #[test]
    fn totals_and_counts() {
        let dataset: Dataset = serde_json::from_str(&format!("[{ONE},{ONE}]")).unwrap();
        let answer =
            |count, factor| serde_json::from_str::<serde_json::Value>(&dataset.json(count, factor)).unwrap();
        let found = answer(1, 3);
        assert_eq!((&found["count"], &found["items"][0]["total"]), (&1.into(), &14_760.into()));
        assert_eq!(found["items"][0]["rating"]["count"], 127);
        assert_eq!(answer(50, 1)["count"], 2);
        assert_eq!(answer(0, 1)["items"].as_array().unwrap().len(), 0);
    }

    #[test]
    fn no_file_no_items() {
        assert_eq!(Dataset::read("/no/such/file").unwrap().json(5, 1), r#"{"items":[],"count":0}"#);
    }
}
