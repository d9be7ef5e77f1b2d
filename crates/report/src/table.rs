//! A plain table: the first column to the left, figures to the right.

/// Lines up rows under their heads. Columns whose every cell is `0` are left out where `drop_zero` says so.
pub fn table(heads: &[&str], rows: &[Vec<String>], drop_zero: &[&str]) -> String {
    let shown: Vec<usize> = (0..heads.len())
        .filter(|column| !drop_zero.contains(&heads[*column]) || rows.iter().any(|row| row[*column] != "0"))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let line = |cells: &dyn Fn(usize) -> String| {
        let mut line = String::from(" ");
        for column in &shown {
            let (cell, width) = (cells(*column), width(*column));
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            if *column == 0 {
                line.extend([" ", &cell, &padding]);
            } else {
                line.extend(["  ", &padding, &cell]);
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&|column| heads[column].to_owned());
    rows.iter().for_each(|row| text.push_str(&line(&|column| row[column].clone())));
    text
}
