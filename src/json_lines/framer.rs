//! Values of a stream of JSON: where each begins and ends, in any of the forms that programs write.
//!
//! One value a line, one over several lines, several in a line, an array of them, a JSON text sequence (RFC 7464). A value that is
//! broken ends where the next one begins, so that one bad line does not hide the others. Nothing is parsed here.

/// Separator of a JSON text sequence.
const RECORD_SEPARATOR: u8 = 0x1e;

/// Most brackets that are open at a time: no event that can be stored has as many.
const MAX_DEPTH: usize = 1024;

/// Part of the input that should be one event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Line on which it begins, from 1.
    pub(super) line: u64,
    pub(super) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Bytes from the first to the last that is not blank.
    Value(Vec<u8>),
    /// More bytes than the limit, which are not kept.
    TooLarge,
    /// The end of the input within an array that began on this line.
    OpenArray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two values.
    Between,
    /// In an object, or in an array that is no array of values.
    Value,
    /// In a string of such a value.
    String,
    /// After a backslash in a string.
    Escape,
    /// In anything else, which is not an event: until the end of its line.
    Text,
}

/// Cuts a stream into values. Holds one value of limited size.
#[derive(Debug)]
pub(super) struct Framer {
    max_bytes: usize,
    state: State,
    /// Current line.
    line: u64,
    /// Line on which the array of values begins that is open.
    array: Option<u64>,
    body: Vec<u8>,
    /// Line on which the value begins.
    begin: u64,
    /// The value is larger than the limit, which was reported.
    is_too_large: bool,
    /// Brackets that have to close.
    closers: Vec<u8>,
    /// Last byte of the value that is not blank.
    last: u8,
    /// No byte of the current line was read.
    is_line_start: bool,
}

/// Result of one byte.
enum Step {
    Continue,
    /// The value ends with this byte.
    End,
    /// The value ends before this byte.
    EndBefore,
}

impl Framer {
    pub(super) fn new(max_bytes: usize) -> Framer {
        Framer {
            max_bytes,
            state: State::Between,
            line: 1,
            array: None,
            body: Vec::new(),
            begin: 1,
            is_too_large: false,
            closers: Vec::new(),
            last: 0,
            is_line_start: true,
        }
    }

    /// Returns the line that is being read.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Reads until a value is complete or the bytes end. Returns the number of bytes that were read, and the value.
    pub(super) fn read(&mut self, bytes: &[u8]) -> (usize, Option<Item>) {
        for (at, byte) in bytes.iter().enumerate() {
            let step = self.step(*byte);
            let used = if matches!(step, Step::EndBefore) { at } else { at + 1 };
            if !matches!(step, Step::EndBefore) {
                self.is_line_start = *byte == b'\n';
                self.line += u64::from(self.is_line_start);
            }
            match step {
                Step::Continue if self.body.len() > self.max_bytes => {
                    self.is_too_large = true;
                    self.body = Vec::new();
                    return (used, Some(Item { line: self.begin, content: Content::TooLarge }));
                }
                Step::Continue => {}
                Step::End | Step::EndBefore => {
                    if let Some(item) = self.end() {
                        return (used, Some(item));
                    }
                    if matches!(step, Step::EndBefore) {
                        return (used, None);
                    }
                }
            }
        }
        (bytes.len(), None)
    }

    /// Returns what the end of the input leaves, one after the other.
    pub(super) fn finish(&mut self) -> Option<Item> {
        if self.state != State::Between
            && let Some(item) = self.end()
        {
            return Some(item);
        }
        self.array.take().map(|line| Item { line, content: Content::OpenArray })
    }

    /// Ends the value; `None` where it was reported already.
    fn end(&mut self) -> Option<Item> {
        self.state = State::Between;
        let body = std::mem::take(&mut self.body);
        let value = Content::Value(body.trim_ascii().to_vec());
        (!std::mem::take(&mut self.is_too_large)).then_some(Item { line: self.begin, content: value })
    }

    fn step(&mut self, byte: u8) -> Step {
        match self.state {
            State::Between => self.between(byte),
            State::Text => match byte {
                b'\n' | RECORD_SEPARATOR => Step::EndBefore,
                b',' | b']' if self.array.is_some() => Step::EndBefore,
                _ => self.keep(byte, State::Text),
            },
            State::Escape if byte != b'\n' => self.keep(byte, State::String),
            // A line cannot end within a string: the quote is missing.
            State::String | State::Escape => match byte {
                b'\n' | RECORD_SEPARATOR => Step::EndBefore,
                b'\\' => self.keep(byte, State::Escape),
                b'"' => self.keep(byte, State::Value),
                _ => self.keep(byte, State::String),
            },
            State::Value => self.in_value(byte),
        }
    }

    fn between(&mut self, byte: u8) -> Step {
        match byte {
            // A byte order mark stands where files were joined; commas, where an array was cut.
            b' ' | b'\t' | b'\r' | b'\n' | b',' | RECORD_SEPARATOR | 0xef | 0xbb | 0xbf => {
                return Step::Continue;
            }
            b'[' if self.array.is_none() => {
                self.array = Some(self.line);
                return Step::Continue;
            }
            b']' if self.array.take().is_some() => return Step::Continue,
            _ => {}
        }
        self.begin = self.line;
        self.closers.clear();
        match byte {
            b'{' | b'[' => self.in_value(byte),
            _ => self.keep(byte, State::Text),
        }
    }

    fn in_value(&mut self, byte: u8) -> Step {
        match byte {
            RECORD_SEPARATOR => return Step::EndBefore,
            b'{' if self.is_line_start && !self.closers.is_empty() && self.begins_another() => {
                return Step::EndBefore;
            }
            b'{' | b'[' if self.closers.len() == MAX_DEPTH => return self.keep(byte, State::Text),
            b'{' => self.closers.push(b'}'),
            b'[' => self.closers.push(b']'),
            b'}' | b']' => {
                let fits = self.closers.pop() == Some(byte);
                if !fits || self.closers.is_empty() {
                    self.keep(byte, State::Value);
                    return Step::End;
                }
            }
            _ => {}
        }
        self.keep(byte, if byte == b'"' { State::String } else { State::Value })
    }

    /// Returns whether a brace at the beginning of a line begins the next value, because the one that is open was cut off. It may
    /// belong to it where a value can stand, in text that is not indented; not on the second line, which no program writes so.
    fn begins_another(&self) -> bool {
        let is_second_line = self.begin + 1 == self.line;
        let in_object = self.closers.last() == Some(&b'}');
        is_second_line || !matches!((self.last, in_object), (b'[' | b':', _) | (b',', false))
    }

    fn keep(&mut self, byte: u8, state: State) -> Step {
        self.state = state;
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        if !self.is_too_large {
            self.body.push(byte);
        }
        Step::Continue
    }
}

#[cfg(test)]
#[path = "framer_tests.rs"]
mod tests;
