//! The source of an event.

use schemars::JsonSchema;
use serde::Serialize;

use crate::named::named_enum;

named_enum! {
    /// The party that caused an event, as the table's CHECK constraint spells it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Source {
        /// The customer portal; the default.
        #[default]
        Customer = "customer",
        /// Staff.
        Staff = "staff",
    }
}
