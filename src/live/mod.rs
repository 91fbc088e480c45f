//! Events as they are stored: streams of events for tenants (section 12 of the contract).
//!
//! A [`Subscription`] gives one watcher's events in the order in which they became visible, from any position, each once. Those who
//! watch with the same claims share a feed: one look at the journal serves all of them, at most every 200 ms. The broker only
//! wakes: a worker's notice names the tenants whose events it has stored ([`crate::broker::notices`]); without it a feed looks every
//! two seconds. Rows come from the database under the tenant's claims, always.

mod feed;
mod hub;
mod portion;
mod subscription;

pub use hub::{Hub, TooMany};
pub use portion::LiveEvent;
pub use subscription::{Filter, Item, Subscription};
