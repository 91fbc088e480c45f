//! The worker: what it stores, dead-letters, holds and survives.

mod corpus;
mod exactly_once;
mod isolation;
mod metrics;
mod outages;
mod prefetch;
mod random_messages;
mod reconnects;
mod refused_dead_letters;
mod rejections;
mod topology;
mod unreadable_properties;
