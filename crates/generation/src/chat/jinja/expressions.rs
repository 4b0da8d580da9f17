//! Expressions, from the loosest operator to the tightest.

use super::ast::{CallArguments, Comparison, Constant, Expr, Operator, Postfix, Sign};
use super::error::Result;
use super::lexer::Token;
use super::parser::{Parser, describe};

impl Parser {
    /// `a`, or `a, b`: a tuple without parentheses.
    pub(super) fn tuple(&mut self, conditional: bool) -> Result<Expr> {
        self.tuple_until(conditional, &[])
    }

    pub(super) fn tuple_until(&mut self, conditional: bool, ends: &[&str]) -> Result<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() && !self.skip_operator(",") {
                break;
            }
            is_tuple |= !items.is_empty();
            let at_end = matches!(self.peek(), Token::PrintEnd | Token::BlockEnd) || self.is_operator(")");
            if at_end || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            items.push(if conditional { self.expression()? } else { self.nested(Self::or)? });
        }
        match items.pop() {
            Some(item) if !is_tuple => Ok(item),
            Some(item) => {
                items.push(item);
                Ok(Expr::Tuple(items))
            }
            None => self.error(format!("expected a value, found {}", self.found())),
        }
    }

    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.nested(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Expr> {
        let mut branches = Vec::new();
        loop {
            let value = self.or()?;
            if !self.skip_name("if") {
                let otherwise = Some(Box::new(value));
                return Ok(match otherwise {
                    Some(value) if branches.is_empty() => *value,
                    otherwise => Expr::Conditional { branches, otherwise },
                });
            }
            branches.push((value, self.or()?));
            if !self.skip_name("else") {
                return Ok(Expr::Conditional { branches, otherwise: None });
            }
        }
    }

    pub(super) fn or(&mut self) -> Result<Expr> {
        let mut operands = vec![self.and()?];
        while self.skip_name("or") {
            operands.push(self.and()?);
        }
        Ok(single_or(operands, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr> {
        let mut operands = vec![self.not()?];
        while self.skip_name("and") {
            operands.push(self.not()?);
        }
        Ok(single_or(operands, Expr::And))
    }

    fn not(&mut self) -> Result<Expr> {
        let mut count = 0;
        while self.skip_name("not") {
            count += 1;
        }
        let operand = self.compare()?;
        Ok(match count {
            0 => operand,
            _ => Expr::Not { odd: count % 2 == 1, operand: Box::new(operand) },
        })
    }

    fn compare(&mut self) -> Result<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison() {
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek() {
            Token::Operator("==") => Comparison::Eq,
            Token::Operator("!=") => Comparison::Ne,
            Token::Operator("<") => Comparison::Lt,
            Token::Operator("<=") => Comparison::Le,
            Token::Operator(">") => Comparison::Gt,
            Token::Operator(">=") => Comparison::Ge,
            Token::Name(name) if name == "in" => Comparison::In,
            Token::Name(name) if name == "not" && matches!(self.peek_at(1), Token::Name(name) if name == "in") => {
                self.next();
                Comparison::NotIn
            }
            _ => return None,
        };
        self.next();
        Some(comparison)
    }

    fn sum(&mut self) -> Result<Expr> {
        self.arithmetic(Self::concat, &[("+", Operator::Add), ("-", Operator::Sub)])
    }

    fn concat(&mut self) -> Result<Expr> {
        let mut operands = vec![self.product()?];
        while self.skip_operator("~") {
            operands.push(self.product()?);
        }
        Ok(single_or(operands, Expr::Concat))
    }

    fn product(&mut self) -> Result<Expr> {
        let operators = [("*", Operator::Mul), ("/", Operator::Div), ("//", Operator::FloorDiv), ("%", Operator::Mod)];
        self.arithmetic(Self::power, &operators)
    }

    fn power(&mut self) -> Result<Expr> {
        self.arithmetic(|parser| parser.unary(true), &[("**", Operator::Pow)])
    }

    fn arithmetic(
        &mut self,
        operand: impl Fn(&mut Self) -> Result<Expr>,
        operators: &[(&str, Operator)],
    ) -> Result<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((text, operator)) = operators.iter().find(|(text, _)| self.is_operator(text)) {
            self.skip_operator(text);
            rest.push((*operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) })
    }

    /// A sign binds tighter than a filter: `-1 | abs` is 1.
    fn unary(&mut self, filters: bool) -> Result<Expr> {
        let mut signs = Vec::new();
        loop {
            if self.skip_operator("-") {
                signs.push(Sign::Minus);
            } else if self.skip_operator("+") {
                signs.push(Sign::Plus);
            } else {
                break;
            }
        }
        let mut value = self.primary()?;
        if !signs.is_empty() {
            let chain = self.subscripts()?;
            signs.reverse();
            value = Expr::Signed(signs, Box::new(with_chain(value, chain)));
        }
        let mut chain = self.subscripts()?;
        if filters {
            self.filters_and_tests(&mut chain)?;
        }
        Ok(with_chain(value, chain))
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.next() {
            Token::Name(name) => Ok(match name.as_str() {
                "true" | "True" => Expr::Constant(Constant::Bool(true)),
                "false" | "False" => Expr::Constant(Constant::Bool(false)),
                "none" | "None" => Expr::Constant(Constant::None),
                name => Expr::Name(name.into()),
            }),
            Token::Str(mut text) => {
                while let Token::Str(more) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                Ok(Expr::Constant(Constant::Str(text.into())))
            }
            Token::Int(value) => Ok(Expr::Constant(Constant::Int(value))),
            Token::Float(value) => Ok(Expr::Constant(Constant::Float(value))),
            Token::Operator("(") => {
                if self.skip_operator(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let value = self.tuple(true)?;
                self.expect_operator(")")?;
                Ok(value)
            }
            Token::Operator("[") => {
                let mut items = Vec::new();
                while !self.skip_operator("]") {
                    if !items.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                Ok(Expr::List(items))
            }
            Token::Operator("{") => {
                let mut entries = Vec::new();
                while !self.skip_operator("}") {
                    if !entries.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect_operator(":")?;
                    entries.push((key, self.expression()?));
                }
                Ok(Expr::Dict(entries))
            }
            token => self.error(format!("expected a value, found {}", describe(&token))),
        }
    }

    fn subscripts(&mut self) -> Result<Vec<Postfix>> {
        let mut chain = Vec::new();
        loop {
            if self.skip_operator(".") {
                chain.push(match self.next() {
                    Token::Name(name) => Postfix::Attribute(name.into()),
                    Token::Int(index) => Postfix::Item(Expr::Constant(Constant::Int(index))),
                    _ => return self.error("expected a name after `.`"),
                });
            } else if self.skip_operator("[") {
                chain.push(self.item()?);
            } else if self.is_operator("(") {
                chain.push(Postfix::Call(self.call_arguments()?));
            } else {
                return Ok(chain);
            }
        }
    }

    /// A subscript in square brackets.
    fn item(&mut self) -> Result<Postfix> {
        let mut parts: [Option<Expr>; 3] = [None, None, None];
        let mut colons = 0;
        while !self.is_operator("]") {
            if self.skip_operator(":") {
                colons += 1;
                if colons > 2 {
                    return self.error("a slice has at most three parts");
                }
            } else if parts[colons].is_some() {
                return self.error(format!("expected `]`, found {}", self.found()));
            } else {
                parts[colons] = Some(self.expression()?);
            }
        }
        self.expect_operator("]")?;
        match (colons, parts) {
            (0, [Some(index), ..]) => Ok(Postfix::Item(index)),
            (0, _) => self.error("expected an index"),
            (_, parts) => Ok(Postfix::Slice(parts)),
        }
    }

    fn filters_and_tests(&mut self, chain: &mut Vec<Postfix>) -> Result<()> {
        loop {
            if self.skip_operator("|") {
                chain.push(self.filter()?);
            } else if self.skip_name("is") {
                chain.push(self.test()?);
            } else if self.is_operator("(") {
                chain.push(Postfix::Call(self.call_arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    /// A test may have one argument without parentheses: `x is divisibleby 3`.
    fn test(&mut self) -> Result<Postfix> {
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let mut arguments = CallArguments::default();
        let takes_argument = match self.peek() {
            Token::Name(name) => {
                !matches!(name.as_str(), "else" | "or" | "and" | "if" | "is" | "in" | "not" | "recursive")
            }
            Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Operator("[" | "{") => true,
            _ => false,
        };
        if self.is_operator("(") {
            arguments = self.call_arguments()?;
        } else if takes_argument {
            let argument = self.nested(Self::primary)?;
            let chain = self.subscripts()?;
            arguments.positional.push(with_chain(argument, chain));
        }
        Ok(Postfix::Test { name, arguments, negated })
    }

    pub(super) fn call_arguments(&mut self) -> Result<CallArguments> {
        let mut arguments = CallArguments::default();
        let mut first = true;
        self.expect_operator("(")?;
        while !self.skip_operator(")") {
            if !first {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            first = false;
            let is_named = matches!((self.peek(), self.peek_at(1)), (Token::Name(_), Token::Operator("=")));
            if self.skip_operator("**") {
                arguments.named_rest = Some(Box::new(self.expression()?));
            } else if self.skip_operator("*") {
                arguments.rest = Some(Box::new(self.expression()?));
            } else if is_named {
                let name = self.expect_name()?;
                self.expect_operator("=")?;
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() && arguments.named_rest.is_none() {
                arguments.positional.push(self.expression()?);
            } else {
                return self.error("a positional argument follows a keyword argument");
            }
        }
        Ok(arguments)
    }
}

fn single_or(mut operands: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match operands.pop() {
        Some(only) if operands.is_empty() => only,
        Some(last) => {
            operands.push(last);
            many(operands)
        }
        None => many(operands),
    }
}

fn with_chain(value: Expr, mut chain: Vec<Postfix>) -> Expr {
    match value {
        _ if chain.is_empty() => value,
        Expr::Postfix(base, mut first) => {
            first.append(&mut chain);
            Expr::Postfix(base, first)
        }
        value => Expr::Postfix(Box::new(value), chain),
    }
}
