//! Enums whose variants have a name in headers, labels and texts.

/// Defines an enum with `ALL`, `name()` and `from_name()` from one list of variants and their names.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $Enum:ident {
            $($(#[$variant_meta:meta])* $Variant:ident = $name:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        $visibility enum $Enum {
            $($(#[$variant_meta])* $Variant),+
        }

        #[allow(dead_code)] // not every enum is both listed and read back
        impl $Enum {
            /// Every variant, in the order of its definition.
            $visibility const ALL: [$Enum; [$($name),+].len()] = [$($Enum::$Variant),+];

            /// Returns the name.
            #[must_use]
            $visibility const fn name(self) -> &'static str {
                match self {
                    $($Enum::$Variant => $name),+
                }
            }

            /// Returns the variant with this name.
            #[must_use]
            $visibility fn from_name(name: &str) -> Option<$Enum> {
                match name {
                    $($name => Some($Enum::$Variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use named_enum;

#[cfg(test)]
mod tests {
    named_enum! {
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Size {
            Small = "small",
            Large = "large",
        }
    }

    #[test]
    fn every_name_leads_back_to_its_variant() {
        assert_eq!(Size::ALL.map(Size::name), ["small", "large"]);
        assert_eq!(
            Size::ALL.map(|size| Size::from_name(size.name())),
            [Some(Size::Small), Some(Size::Large)]
        );
        assert_eq!(Size::from_name("Small"), None);
    }
}
