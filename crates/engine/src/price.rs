//! What capacity units cost: a dated table by region, and what a spec puts in its place.
//!
//! DynamoDB's prices of request units on demand, standard table class, as of November 2024, when they were halved. Each
//! was found in what others quote of AWS's price list after that; a region of which none was found is not in it, since a
//! price that is half of the old one is not always the new one. What is provisioned is paid by the hour instead; its units are priced as if they were on demand.

use crate::migration::Migration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_model::{Capacity, StoreName};
use whimbrel_spec::resolved::Price;
use whimbrel_store::CostLimit;

/// The state of the table.
pub const AS_OF: &str = "November 2024";
/// The region whose prices stand for those of a region that the table does not have: AWS's cheapest.
const FALLBACK: &str = "us-east-1";
/// The name under which a spec prices every region that it does not name.
const ANY_REGION: &str = "default";

/// Region, dollars for a million write units, dollars for a million read units.
const LIST: [(&str, f64, f64); 10] = [
    ("us-east-1", 0.625, 0.125),
    ("us-east-2", 0.625, 0.125),
    ("us-west-2", 0.625, 0.125),
    ("eu-central-1", 0.7625, 0.1525),
    ("eu-north-1", 0.67, 0.1345),
    ("eu-west-1", 0.705, 0.1415),
    ("ap-northeast-1", 0.715, 0.1425),
    ("ap-northeast-2", 0.68, 0.1355),
    ("ap-south-1", 0.71, 0.1425),
    ("ap-southeast-2", 0.71, 0.1425),
];

/// What a store's units cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorePrice {
    /// Dollars for one write unit.
    pub usd_per_write_unit: f64,
    /// Dollars for one read unit.
    pub usd_per_read_unit: f64,
    /// Where the price is from, for people.
    pub from: String,
}

/// The prices of a migration's metered stores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices(BTreeMap<StoreName, StorePrice>);

impl StorePrice {
    /// Whether the price in a region is known: from the spec, or from the table.
    fn is_known(region: &str, given: &BTreeMap<String, Price>) -> bool {
        let has = |name: &str| given.contains_key(name);
        has(region) || has(ANY_REGION) || LIST.iter().any(|(known, ..)| *known == region)
    }

    /// The price in a region: the spec's, else the table's.
    fn of(region: &str, given: &BTreeMap<String, Price>) -> Self {
        let listed = |name: &str| LIST.iter().find(|(known, ..)| *known == name);
        let list = |(_, write, read): &(&str, f64, f64), from: String| Self::of_millions(*write, *read, from);
        match (given.get(region).or_else(|| given.get(ANY_REGION)), listed(region)) {
            (Some(price), _) => Self::of_millions(
                price.write_usd_per_million,
                price.read_usd_per_million,
                format!("{region}, as the spec has them"),
            ),
            (None, Some(price)) => list(price, format!("{region} on demand, {AS_OF}")),
            (None, None) => {
                let from = format!(
                    "{FALLBACK} on demand, {AS_OF}: those of {region} are not known, give them under `prices`"
                );
                listed(FALLBACK).map_or_else(
                    || Self::of_millions(0.0, 0.0, from.clone()),
                    |price| list(price, from.clone()),
                )
            }
        }
    }

    fn of_millions(write: f64, read: f64, from: String) -> Self {
        Self { usd_per_write_unit: write / 1e6, usd_per_read_unit: read / 1e6, from }
    }
}

impl Prices {
    /// The prices of the stores that a migration uses. Without I/O.
    #[must_use]
    pub fn of(migration: &Migration) -> Self {
        let given = &migration.resolved.prices;
        let priced = migration
            .stores
            .iter()
            .filter_map(|(name, store)| Some((name.clone(), StorePrice::of(&store.price_region()?, given))));
        Self(priced.collect())
    }

    /// The regions of a migration's stores whose prices are not known, by name.
    #[must_use]
    pub fn unknown_regions(migration: &Migration) -> BTreeSet<String> {
        let regions = migration.stores.values().filter_map(|store| store.price_region());
        regions.filter(|region| !StorePrice::is_known(region, &migration.resolved.prices)).collect()
    }

    /// The prices that stand for those of a store of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self(BTreeMap::from([(StoreName::new("unknown"), StorePrice::of(FALLBACK, &BTreeMap::new()))]))
    }

    /// Whether any store is metered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a store is metered.
    #[must_use]
    pub fn has(&self, store: &StoreName) -> bool {
        self.0.contains_key(store)
    }

    /// What read units of a store cost, in dollars; nothing where it is not metered.
    #[must_use]
    pub fn reads_usd(&self, store: &StoreName, units: f64) -> f64 {
        self.0.get(store).map_or(0.0, |price| units * price.usd_per_read_unit)
    }

    /// What write units of a store cost, in dollars; nothing where it is not metered.
    #[must_use]
    pub fn writes_usd(&self, store: &StoreName, units: f64) -> f64 {
        self.0.get(store).map_or(0.0, |price| units * price.usd_per_write_unit)
    }

    /// What units cost of which it is not known whose they are, at the dearest store's price.
    #[must_use]
    pub fn at_most_usd(&self, units: Capacity) -> f64 {
        let limit = self.limit(0.0);
        units.read_units * limit.usd_per_read_unit + units.write_units * limit.usd_per_write_unit
    }

    /// A limit of so many dollars, counted at the dearest store's prices, so that it holds wherever units are used.
    #[must_use]
    pub fn limit(&self, usd: f64) -> CostLimit {
        let dearest = |price: fn(&StorePrice) -> f64| self.0.values().map(price).fold(0.0, f64::max);
        CostLimit {
            usd,
            usd_per_read_unit: dearest(|price| price.usd_per_read_unit),
            usd_per_write_unit: dearest(|price| price.usd_per_write_unit),
        }
    }

    /// Where the prices are from, for people: `us-east-1 on demand, November 2024`.
    #[must_use]
    pub fn from(&self) -> String {
        let from: BTreeSet<&str> = self.0.values().map(|price| price.from.as_str()).collect();
        from.into_iter().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn million(price: &StorePrice) -> (f64, f64) {
        ((price.usd_per_write_unit * 1e12).round() / 1e6, (price.usd_per_read_unit * 1e12).round() / 1e6)
    }

    #[test]
    fn a_spec_goes_before_the_table_and_unknown_regions_say_so() {
        let none = BTreeMap::new();
        assert_eq!(million(&StorePrice::of("us-east-1", &none)), (0.625, 0.125));
        assert_eq!(million(&StorePrice::of("eu-west-1", &none)), (0.705, 0.1415));
        let unknown = StorePrice::of("mars-north-1", &none);
        assert_eq!(million(&unknown), (0.625, 0.125));
        assert!(unknown.from.contains("those of mars-north-1 are not known"), "{}", unknown.from);
        assert!(StorePrice::is_known("ap-south-1", &none) && !StorePrice::is_known("mars-north-1", &none));
        let price = |write, read| Price { write_usd_per_million: write, read_usd_per_million: read };
        let given = BTreeMap::from([
            ("eu-west-1".to_owned(), price(2.0, 1.0)),
            (ANY_REGION.to_owned(), price(4.0, 3.0)),
        ]);
        assert_eq!(million(&StorePrice::of("eu-west-1", &given)), (2.0, 1.0));
        assert_eq!(million(&StorePrice::of("us-east-1", &given)), (4.0, 3.0));
        assert!(StorePrice::is_known("mars-north-1", &given));
    }

    #[test]
    fn a_limit_holds_at_the_dearest_price() {
        let none = BTreeMap::new();
        let prices = Prices(BTreeMap::from([
            (StoreName::new("a"), StorePrice::of("us-east-1", &none)),
            (StoreName::new("b"), StorePrice::of("eu-west-1", &none)),
        ]));
        let limit = prices.limit(1.0);
        let near =
            |usd: f64, wanted: f64| assert!((usd - wanted).abs() < wanted * 1e-9, "{usd}, not {wanted}");
        near(limit.usd_per_write_unit, 0.705e-6);
        near(limit.usd_per_read_unit, 0.1415e-6);
        near(prices.writes_usd(&StoreName::new("a"), 1e6), 0.625);
        assert_eq!(prices.writes_usd(&StoreName::new("other"), 1e6), 0.0);
        assert_eq!(prices.from(), "eu-west-1 on demand, November 2024; us-east-1 on demand, November 2024");
    }
}
