//! Rows on standard output: a table for people, NDJSON and CSV for programs.

use console::{measure_text_width, truncate_str};
use std::io::{self, Write};
use whimbrel_query::{json_row, text_of};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};

/// A cell of a table is cut at this width.
const CELL_WIDTH: usize = 60;
/// So many rows decide how wide the columns of a table are.
const BLOCK: usize = 1000;

/// How rows look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// Columns lined up, wide values cut, control characters escaped.
    Table,
    /// The cells as they are, one under the other: plans.
    Plain,
    /// One JSON object a line, every digit kept.
    Json,
    /// RFC 4180 with a head; NULL is nothing, an empty text is `""`.
    Csv,
}

/// Writes rows as they come.
pub struct RowWriter<W> {
    out: W,
    format: RowFormat,
    schema: SchemaRef,
    /// Rows that wait for the widths of a table.
    block: Vec<Vec<String>>,
    /// Known once the first block is full.
    widths: Option<Vec<usize>>,
    written: u64,
}

impl<W: Write> RowWriter<W> {
    /// A writer that has written nothing but the head of a CSV.
    ///
    /// # Errors
    /// The output is gone.
    pub fn new(out: W, format: RowFormat, schema: SchemaRef) -> io::Result<Self> {
        let mut writer = Self { out, format, schema, block: Vec::new(), widths: None, written: 0 };
        if format == RowFormat::Csv {
            let names = writer.schema.fields().iter().map(|field| csv_cell(Some(field.name().clone())));
            let head: Vec<_> = names.collect();
            write!(writer.out, "{}\r\n", head.join(","))?;
        }
        Ok(writer)
    }

    /// Writes the rows of a batch.
    ///
    /// # Errors
    /// The output is gone.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            self.row(batch, row)?;
            self.written += 1;
        }
        self.out.flush()
    }

    /// Writes what waited, and says how many rows there were.
    ///
    /// # Errors
    /// The output is gone.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.format == RowFormat::Table && self.widths.is_none() {
            self.begin_table()?;
        }
        self.out.flush()?;
        Ok(self.written)
    }

    fn row(&mut self, batch: &RecordBatch, row: usize) -> io::Result<()> {
        let cells = || batch.columns().iter().map(move |column| text_of(column, row));
        match self.format {
            RowFormat::Json => {
                serde_json::to_writer(&mut self.out, &json_row(batch, row))?;
                self.out.write_all(b"\n")
            }
            RowFormat::Csv => {
                let cells: Vec<_> = cells().map(csv_cell).collect();
                write!(self.out, "{}\r\n", cells.join(","))
            }
            RowFormat::Plain => {
                let cells: Vec<_> = cells().flatten().collect();
                writeln!(self.out, "{}", cells.join("\n").trim_end())
            }
            RowFormat::Table => {
                let cells: Vec<_> = cells().map(table_cell).collect();
                if let Some(widths) = &self.widths {
                    return write_line(&mut self.out, &self.schema, widths, &cells);
                }
                self.block.push(cells);
                if self.block.len() == BLOCK { self.begin_table() } else { Ok(()) }
            }
        }
    }

    fn begin_table(&mut self) -> io::Result<()> {
        let heads: Vec<_> =
            self.schema.fields().iter().map(|field| table_cell(Some(field.name().clone()))).collect();
        let width = |column: usize| {
            let cells = self.block.iter().chain([&heads]).filter_map(|row| row.get(column));
            cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..heads.len()).map(width).collect();
        write_line(&mut self.out, &self.schema, &widths, &heads)?;
        let rules: Vec<_> = widths.iter().map(|width| "─".repeat(*width)).collect();
        write_line(&mut self.out, &self.schema, &widths, &rules)?;
        for row in std::mem::take(&mut self.block) {
            write_line(&mut self.out, &self.schema, &widths, &row)?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

/// A line of a table: figures to the right, all else to the left.
fn write_line(
    out: &mut impl Write,
    schema: &SchemaRef,
    widths: &[usize],
    cells: &[String],
) -> io::Result<()> {
    let mut line = String::new();
    for ((cell, width), field) in cells.iter().zip(widths).zip(schema.fields()) {
        let cell = truncate_str(cell, *width, "…");
        let padding = " ".repeat(width.saturating_sub(measure_text_width(&cell)));
        if !line.is_empty() {
            line.push_str("  ");
        }
        let parts = if is_figure(field.data_type()) { [&padding, &*cell] } else { [&*cell, &padding] };
        line.extend(parts);
    }
    writeln!(out, "{}", line.trim_end())
}

fn is_figure(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// A value on one line, harmless to a terminal.
fn table_cell(value: Option<String>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    let mut cell = String::new();
    // Longer ones are cut in any case.
    for character in value.chars().take(CELL_WIDTH + 1) {
        if character.is_control() {
            cell.extend(character.escape_default());
        } else {
            cell.push(character);
        }
    }
    truncate_str(&cell, CELL_WIDTH, "…").into_owned()
}

fn csv_cell(value: Option<String>) -> String {
    match value {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let texts = vec![Some("ü\u{1b}[31m\n"), None, Some("")];
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(100)])) as ArrayRef, true),
            ("a,b", Arc::new(StringArray::from(texts)), true),
        ])
        .unwrap()
    }

    fn written(format: RowFormat, batch: &RecordBatch) -> String {
        let mut out = Vec::new();
        let mut writer = RowWriter::new(&mut out, format, batch.schema()).unwrap();
        writer.write(batch).unwrap();
        assert_eq!(writer.finish().unwrap(), u64::try_from(batch.num_rows()).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_is_lined_up_and_harmless() {
        let expected = "   n  a,b\n────  ─────────────\n   1  ü\\u{1b}[31m\\n\nNULL  NULL\n 100\n";
        assert_eq!(written(RowFormat::Table, &batch()), expected);
        assert_eq!(written(RowFormat::Table, &batch().slice(0, 0)), "n  a,b\n─  ───\n");
    }

    #[test]
    fn wide_values_are_cut_and_later_rows_fit_the_first() {
        let texts: Vec<String> =
            (0..1500).map(|row| if row < 1000 { "short".to_owned() } else { "x".repeat(5000) }).collect();
        let column: ArrayRef = Arc::new(StringArray::from(texts));
        let batch = RecordBatch::try_from_iter([("t", column)]).unwrap();
        let text = written(RowFormat::Table, &batch);
        assert_eq!(text.lines().count(), 1502);
        assert_eq!(text.lines().last(), Some("xxxx…"));
        let text = written(RowFormat::Table, &batch.slice(1000, 1));
        assert_eq!(text.lines().last().map(measure_text_width), Some(CELL_WIDTH));
    }

    #[test]
    fn programs_get_every_value_as_it_is() {
        assert_eq!(
            written(RowFormat::Csv, &batch()),
            "n,\"a,b\"\r\n1,\"ü\u{1b}[31m\n\"\r\n,\r\n100,\"\"\r\n"
        );
        let expected =
            "{\"n\":1,\"a,b\":\"ü\\u001b[31m\\n\"}\n{\"n\":null,\"a,b\":null}\n{\"n\":100,\"a,b\":\"\"}\n";
        assert_eq!(written(RowFormat::Json, &batch()), expected);
    }
}
