//! Reading selectors from text.

use std::collections::BTreeSet;

use super::validate::key_at;
use super::{Operator, Requirement, SelectorError};

type Result<T> = std::result::Result<T, SelectorError>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::Greater,
        "<" => Token::Less,
        "!=" => Token::NotEquals,
        "(" => Token::Open,
        _ => return None,
    })
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// All tokens with their texts, the end last.
fn scan(mut text: &str) -> Vec<(Token, String)> {
    let mut tokens = Vec::new();
    loop {
        text = text.trim_start_matches(is_space);
        let Some(first) = text.chars().next() else {
            tokens.push((Token::End, String::new()));
            return tokens;
        };
        if is_symbol(first) {
            // The longest run of symbols that is a token; the rest is looked at again.
            let run = text.find(|c| !is_symbol(c)).unwrap_or(text.len());
            let two = text.get(..2.min(run)).and_then(symbol);
            let (token, length) = match two {
                Some(token) if run >= 2 => (token, 2),
                _ => match text.get(..1).and_then(symbol) {
                    Some(token) => (token, 1),
                    None => (Token::Error, run),
                },
            };
            let (word, rest) = text.split_at(length);
            let word = match token {
                Token::Error => format!("error expected: keyword found '{word}'"),
                _ => word.to_owned(),
            };
            tokens.push((token, word));
            text = rest;
        } else {
            let end = text.find(|c| is_symbol(c) || is_space(c)).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            let token = match word {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            tokens.push((token, word.to_owned()));
            text = rest;
        }
    }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>> {
    let mut parser = Parser { tokens: scan(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        let (token, word) = parser.peek();
        match token {
            Token::Identifier | Token::Not => {}
            Token::End => return Ok(requirements),
            _ => {
                let expected = "expected: !, identifier, or 'end of string'";
                return Err(SelectorError(format!("found '{word}', {expected}")));
            }
        }
        let requirement =
            parser.requirement().map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
        requirements.push(requirement);
        match parser.next() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => {
                let (token, word) = parser.peek();
                if !matches!(token, Token::Identifier | Token::Not) {
                    let expected = "expected: identifier after ','";
                    return Err(SelectorError(format!("found '{word}', {expected}")));
                }
            }
            (_, word) => {
                let expected = "expected: ',' or 'end of string'";
                return Err(SelectorError(format!("found '{word}', {expected}")));
            }
        }
    }
}

impl Parser {
    fn token(&self, at: usize) -> (Token, String) {
        self.tokens.get(at).cloned().unwrap_or((Token::End, String::new()))
    }

    /// Where a value may stand, the operators that are words are values.
    fn peek(&self) -> (Token, String) {
        match self.token(self.at) {
            (Token::In | Token::NotIn, word) => (Token::Identifier, word),
            other => other,
        }
    }

    fn next(&mut self) -> (Token, String) {
        let next = self.peek();
        self.at += 1;
        next
    }

    fn requirement(&mut self) -> Result<Requirement> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(SelectorError(format!("found '{key}', expected: identifier")));
        }
        key_at("<nil>", &key)?;
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator> {
        let (token, word) = self.token(self.at);
        self.at += 1;
        Ok(match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => {
                let expected = "expected: in, notin, =, ==, !=, gt, lt";
                return Err(SelectorError(format!("found '{word}', {expected}")));
            }
        })
    }

    fn exact_value(&mut self) -> Result<String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, word) => Ok(word),
            (_, word) => Err(SelectorError(format!("found '{word}', expected: identifier"))),
        }
    }

    /// `(a,b)`, where what stands between two commas may be empty.
    fn values(&mut self) -> Result<Vec<String>> {
        let (token, word) = self.next();
        if token != Token::Open {
            return Err(SelectorError(format!("found '{word}' expected: '('")));
        }
        let (token, word) = self.peek();
        match token {
            Token::Close => {
                self.next();
                return Ok(vec![String::new()]);
            }
            Token::Identifier | Token::Comma => {}
            _ => {
                let expected = "expected: ',', ')' or identifier";
                return Err(SelectorError(format!("found '{word}', {expected}")));
            }
        }
        let values = self.identifiers()?;
        if self.next().0 != Token::Close {
            return Err(SelectorError(format!("found '{word}', expected: ')'")));
        }
        Ok(values.into_iter().collect())
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                (Token::Identifier, word) => {
                    values.insert(word);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, word) => {
                            let expected = "expected: ',' or ')'";
                            return Err(SelectorError(format!("found '{word}', {expected}")));
                        }
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, word) => {
                    let expected = "expected: ',', or identifier";
                    return Err(SelectorError(format!("found '{word}', {expected}")));
                }
            }
        }
    }
}
