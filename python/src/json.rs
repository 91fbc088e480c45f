//! Python values as JSON text, written in the call: a value that changes afterwards does not change the event.

use std::borrow::Cow;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use cns_events::event::MAX_NESTING;

/// Reason why a value cannot be written.
pub(crate) enum Unwritable {
    /// One line for the log, which never quotes the value.
    Value(String),
    /// Not an error of the value: the interpreter wants to end, or a key was pressed.
    Interrupt(PyErr),
}

impl From<PyErr> for Unwritable {
    fn from(error: PyErr) -> Self {
        Python::attach(|py| {
            if error.is_instance_of::<PyException>(py) {
                let name =
                    error.get_type(py).name().map_or_else(|_| "an exception".into(), |n| n.to_string());
                Unwritable::Value(format!("cannot be written as JSON: {name}"))
            } else {
                Unwritable::Interrupt(error)
            }
        })
    }
}

/// Writer of one document.
pub(crate) struct Writer<'a, 'py> {
    out: Vec<u8>,
    max_bytes: usize,
    /// Python function that returns a plain value for one of another type.
    plain: &'a Bound<'py, PyAny>,
    /// Number of values that JSON or the database cannot hold as they are, and that were changed.
    pub(crate) coerced: u64,
}

impl<'a, 'py> Writer<'a, 'py> {
    pub(crate) fn new(max_bytes: usize, plain: &'a Bound<'py, PyAny>) -> Self {
        Writer { out: Vec::with_capacity(512), max_bytes, plain, coerced: 0 }
    }

    /// Writes an object; `None` is an empty one.
    pub(crate) fn object(&mut self, value: Option<&Bound<'py, PyAny>>) -> Result<String, Unwritable> {
        match value {
            None => self.out.extend(b"{}"),
            Some(value) => self.value(value, 0)?,
        }
        let text = String::from_utf8(std::mem::take(&mut self.out))
            .map_err(|_| Unwritable::Value("is not UTF-8".to_owned()))?;
        if text.starts_with('{') { Ok(text) } else { Err(Unwritable::Value("is not an object".to_owned())) }
    }

    fn value(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Result<(), Unwritable> {
        if depth > MAX_NESTING {
            return Err(Unwritable::Value(format!("is nested deeper than {MAX_NESTING} levels")));
        }
        if self.out.len() > self.max_bytes {
            return Err(Unwritable::Value(format!("is larger than {} bytes", self.max_bytes)));
        }
        if let Ok(text) = value.cast::<PyString>() {
            return self.text(text);
        }
        if value.is_none() {
            self.out.extend(b"null");
        } else if let Ok(truth) = value.cast::<PyBool>() {
            self.out.extend(if truth.is_true() { b"true".as_slice() } else { b"false" });
        } else if let Ok(number) = value.cast::<PyInt>() {
            self.integer(number)?;
        } else if let Ok(number) = value.cast::<PyFloat>() {
            self.float(number.value())?;
        } else if let Ok(map) = value.cast::<PyDict>() {
            self.map(map, depth)?;
        } else if let Ok(list) = value.cast::<PyList>() {
            self.sequence(list.iter(), depth)?;
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.sequence(tuple.iter(), depth)?;
        } else {
            let plain = self.plain.call1((value,))?;
            self.value(&plain, depth + 1)?;
        }
        Ok(())
    }

    fn map(&mut self, map: &Bound<'py, PyDict>, depth: usize) -> Result<(), Unwritable> {
        self.out.push(b'{');
        // The copy belongs to this function alone: code that runs for a value cannot change it meanwhile.
        for (number, (key, value)) in map.copy()?.iter().enumerate() {
            if number > 0 {
                self.out.push(b',');
            }
            match key.cast::<PyString>() {
                Ok(key) => self.text(key)?,
                Err(_) => self.text(&key.str()?)?,
            }
            self.out.push(b':');
            self.value(&value, depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn sequence(
        &mut self,
        values: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> Result<(), Unwritable> {
        self.out.push(b'[');
        for (number, value) in values.enumerate() {
            if number > 0 {
                self.out.push(b',');
            }
            self.value(&value, depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn integer(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Unwritable> {
        if let Ok(small) = number.extract::<i64>() {
            return self.scalar(small);
        }
        // Of the base type: the text of an enum's member is its name.
        let digits = number.py().get_type::<PyInt>().call_method1("__repr__", (number,))?;
        self.out.extend(digits.cast::<PyString>().map_err(PyErr::from)?.to_str()?.as_bytes());
        Ok(())
    }

    fn float(&mut self, number: f64) -> Result<(), Unwritable> {
        if number.is_finite() {
            return self.scalar(number);
        }
        self.coerced += 1;
        self.out.extend(b"null");
        Ok(())
    }

    fn scalar(&mut self, number: impl serde::Serialize) -> Result<(), Unwritable> {
        serde_json::to_writer(&mut self.out, &number)
            .map_err(|_| Unwritable::Value("cannot be written as JSON".to_owned()))
    }

    fn text(&mut self, text: &Bound<'py, PyString>) -> Result<(), Unwritable> {
        let (text, coerced) = utf8(text)?;
        self.coerced += u64::from(coerced);
        self.scalar(text.as_ref())
    }
}

/// Returns a text as UTF-8, and whether it had to be changed: half of a surrogate pair becomes U+FFFD.
pub(crate) fn utf8<'t>(text: &'t Bound<'_, PyString>) -> PyResult<(Cow<'t, str>, bool)> {
    if let Ok(text) = text.to_str() {
        return Ok((Cow::Borrowed(text), false));
    }
    let units: Vec<u8> = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?.extract()?;
    let units: Vec<u16> = units.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
    Ok((Cow::Owned(String::from_utf16_lossy(&units)), true))
}

impl Unwritable {
    /// Names the field.
    pub(crate) fn of(self, field: &str) -> Self {
        match self {
            Unwritable::Value(problem) => Unwritable::Value(format!("{field} {problem}")),
            Unwritable::Interrupt(error) => Unwritable::Interrupt(error),
        }
    }
}
