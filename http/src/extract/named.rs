//! Named values of text that serde makes a type of: those of a query, of a form, of a path's parameters. What does not fit is told with
//! its name and its value.
//!
//! A value is a number, a `bool`, a `char`, text, the name of a variant, or an `Option` or a new type of one: nothing is nested. Nothing is
//! allocated for what is not escaped.
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use percent_encoding::percent_decode;
use serde::de::value::{CowStrDeserializer, MapDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer};
use serde::de::{Expected, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::request::Request;

type Text<'v> = Cow<'v, str>;

/// Why values do not make a type.
#[derive(Debug)]
pub(super) enum Misfit {
    /// There are not as many as the type has.
    Count(String),
    /// One of them does not fit. Whether its name is said.
    Value(String, bool),
}

/// Makes a type of pairs as `application/x-www-form-urlencoded` has them.
pub(super) fn of_form<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, Misfit> {
    let pairs = encoded.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let name_len = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        (decode(&pair[..name_len]), decode(pair.get(name_len + 1..).unwrap_or_default()))
    });
    T::deserialize(Form(pairs))
}

/// Makes a type of a path's parameters.
pub(super) fn of_params<T: DeserializeOwned>(request: &Request) -> Result<T, Misfit> {
    let count = request.params().count();
    let is_value = Cell::new(false);
    let made = T::deserialize(Params { pairs: request.params(), count, is_value: &is_value });
    made.map_err(|misfit| match request.params().next() {
        Some((name, value)) if is_value.get() => misfit.at(name, value),
        _ => misfit,
    })
}

impl Misfit {
    /// What is said of a value is the client's mistake, however it is said.
    fn at(self, name: &str, value: &str) -> Misfit {
        match self {
            Misfit::Value(why, false) | Misfit::Count(why) => {
                Misfit::Value(format!("{name}: {why}: \"{value}\""), true)
            }
            misfit => misfit,
        }
    }
}

impl Error for Misfit {
    fn custom<T: fmt::Display>(why: T) -> Misfit {
        Misfit::Value(why.to_string(), false)
    }

    fn missing_field(field: &'static str) -> Misfit {
        Misfit::Count(format!("missing field `{field}`"))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Misfit {
        Misfit::Count(format!("length {len}, expected {expected}"))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Misfit::Count(why) | Misfit::Value(why, _)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Misfit {}

/// A name or a value (URL standard, section 5.1).
fn decode(encoded: &[u8]) -> Text<'_> {
    if !encoded.contains(&b'+') {
        return percent_decode(encoded).decode_utf8_lossy();
    }
    let spaced: Vec<u8> = encoded.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned().into()
}

/// A new type of anything is read as that thing.
macro_rules! new_types_are_what_they_hold {
    () => {
        fn deserialize_newtype_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value, Misfit> {
            visitor.visit_newtype_struct(self)
        }
    };
}

/// A struct or a map of the pairs, or a sequence of them.
struct Form<I>(I);

impl<'de, 'v, I: Iterator<Item = (Text<'v>, Text<'v>)>> Deserializer<'de> for Form<I> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_map(Pairs { pairs: self.0, last: None })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_seq(MapDeserializer::new(self.0.map(|(name, value)| (Value(name), Value(value)))))
    }

    new_types_are_what_they_hold!();

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit_struct
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A struct or a map by their names, a sequence in their order, or the only one.
struct Params<'p, I> {
    pairs: I,
    count: usize,
    /// Set when it was taken for the only one.
    is_value: &'p Cell<bool>,
}

impl<'v, I: Iterator<Item = (&'v str, &'v str)>> Params<'_, I> {
    fn only(mut self) -> Result<Value<'v>, Misfit> {
        let Params { count, is_value, .. } = self;
        let first = self.pairs.next().filter(|_| count == 1);
        is_value.set(first.is_some());
        first.map(|(_, value)| Value(value.into())).ok_or_else(|| Misfit::Count("expected one".to_owned()))
    }

    fn check(&self, wanted: usize) -> Result<(), Misfit> {
        if self.count == wanted { Ok(()) } else { Err(Misfit::Count(format!("expected {wanted}"))) }
    }
}

macro_rules! of_the_only_one {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.only()?.$method(visitor)
        })*
    };
}

impl<'de, 'v, I: Iterator<Item = (&'v str, &'v str)>> Deserializer<'de> for Params<'_, I> {
    type Error = Misfit;

    of_the_only_one! {
        deserialize_bool deserialize_char deserialize_str deserialize_string deserialize_identifier
        deserialize_bytes deserialize_byte_buf deserialize_f32 deserialize_f64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let pairs = self.pairs.map(|(name, value)| (name.into(), value.into()));
        visitor.visit_map(Pairs { pairs, last: None })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_seq(Values(self.pairs))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.check(len)?;
        visitor.visit_seq(Values(self.pairs))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_tuple(len, visitor)
    }

    new_types_are_what_they_hold!();

    /// For a handler of several routes.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.count == 0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.check(0)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { unit_struct map struct ignored_any }
}

/// The values in their order.
struct Values<I>(I);

impl<'de, 'v, I: Iterator<Item = (&'v str, &'v str)>> SeqAccess<'de> for Values<I> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        let Some((name, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Value(value.into())).map(Some).map_err(|misfit| misfit.at(name, value))
    }
}

/// Names with their values.
struct Pairs<'v, I> {
    pairs: I,
    /// The one whose name was taken.
    last: Option<(Text<'v>, Text<'v>)>,
}

impl<'de, 'v, I: Iterator<Item = (Text<'v>, Text<'v>)>> MapAccess<'de> for Pairs<'v, I> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        self.last = self.pairs.next();
        self.last.as_ref().map(|(name, _)| seed.deserialize(Value(Cow::Borrowed(name)))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        let (name, value) = self.last.take().expect("serde takes a name before its value");
        seed.deserialize(Value(Cow::Borrowed(&value))).map_err(|misfit| misfit.at(&name, &value))
    }
}

/// One name or value.
struct Value<'v>(Text<'v>);

impl<'de> IntoDeserializer<'de, Misfit> for Value<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($kind:ident $method:ident $visit:ident,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            visitor.$visit(self.0.parse::<$kind>().map_err(Misfit::custom)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Misfit;

    parsed! {
        bool deserialize_bool visit_bool,
        u8 deserialize_u8 visit_u8,
        u16 deserialize_u16 visit_u16,
        u32 deserialize_u32 visit_u32,
        u64 deserialize_u64 visit_u64,
        u128 deserialize_u128 visit_u128,
        i8 deserialize_i8 visit_i8,
        i16 deserialize_i16 visit_i16,
        i32 deserialize_i32 visit_i32,
        i64 deserialize_i64 visit_i64,
        i128 deserialize_i128 visit_i128,
        f32 deserialize_f32 visit_f32,
        f64 deserialize_f64 visit_f64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    new_types_are_what_they_hold!();

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let text: CowStrDeserializer<'_, Misfit> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Blue,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Id(u64);

    #[derive(Debug, Deserialize, PartialEq)]
    struct All {
        id: Id,
        color: Option<Color>,
        #[serde(default)]
        ratio: f64,
        is_on: Option<bool>,
        letter: Option<char>,
        text: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "a b")]
        ab: u8,
    }

    /// The same as another implementation makes, but for the words of an error.
    #[test]
    fn forms_are_read_as_others_read_them() {
        fn check<T: DeserializeOwned + PartialEq + Debug>(form: &str) {
            let expected = serde_urlencoded::from_str::<T>(form).ok();
            assert_eq!(of_form::<T>(form.as_bytes()).ok(), expected, "{form}");
        }
        let names = ["", "id", "a+b", "a%20b", "text", "color", "is_on", "letter", "ratio", "%zz"];
        let values =
            ["", "=", "=7", "=256", "=-1", "=a=b", "=+c%2B%", "=red", "=true", "=%e9", "=1.5", "=%C3%A9"];
        for first in names {
            for value in values {
                for form in [format!("{first}{value}"), format!("id=1&{first}{value}&&x=y")] {
                    check::<All>(&form);
                    check::<Strict>(&form);
                    check::<BTreeMap<String, String>>(&form);
                    check::<Vec<(String, String)>>(&form);
                    check::<Vec<(String, u8)>>(&form);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        fn check<T: DeserializeOwned + Debug>(form: &str, expected: &str) {
            assert_eq!(of_form::<T>(form.as_bytes()).unwrap_err().to_string(), expected, "{form}");
        }
        check::<All>("id=x", "id: invalid digit found in string: \"x\"");
        check::<All>("id=", "id: cannot parse integer from empty string: \"\"");
        check::<All>("text=1", "missing field `id`");
        check::<All>("id=1&color=pink", "color: unknown variant `pink`, expected `red` or `blue`: \"pink\"");
        check::<All>("id=1&id=2", "duplicate field `id`");
        check::<Strict>("a+b=256", "a b: number too large to fit in target type: \"256\"");
        check::<Strict>("b=1", "unknown field `b`, expected `a b`");
    }
}
