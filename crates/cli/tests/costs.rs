//! What a run costs: said before and after it, priced by region or by the spec, and limited.

use crate::parcels;
use crate::place::Place;
use serde_json::Value;

const RUN: &[&str] = &["run", "parcels.yaml", "--env", "demo", "--create", "--json"];

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// A place whose spec ends so.
fn with(more: &str) -> Place {
    let place = Place::new();
    parcels::fill(&place, "data/parcels.pg", &parcels::sql(500, 300));
    place.write("parcels.yaml", &parcels::SPEC.replace("limits: { retry_for: 2s }", more));
    place.write("parcels.json", parcels::TABLE);
    place
}

#[test]
fn a_plan_foretells_what_a_run_costs_by_its_region() {
    let place = with("limits: { retry_for: 2s }");
    let plan = place.run(&["plan", "parcels.yaml", "--env", "demo", "--all", "--json"]).expect(0).json();
    let run = place.run(RUN).expect(0).json();
    let units = number(&run["capacity"]["write_units"]);
    assert!(units >= 700.0, "{units}");
    let foretold = number(&plan["capacity"]["write_units"]);
    assert!((foretold - units).abs() <= units * 0.02, "{foretold} units foretold, {units} used");
    let cost = &run["cost_usd"];
    assert!((number(&cost["actual"]) - units * 0.625e-6).abs() < 1e-9, "{cost}");
    assert_eq!(cost["prices"], "us-east-1 on demand, November 2024");
    assert_eq!(cost["all"], cost["actual"], "all of it was written");
    let shown = place.run(&["plan", "parcels.yaml", "--env", "demo"]).expect(0).out;
    assert!(shown.contains("on AWS (us-east-1 on demand, November 2024)"), "{shown}");
}

#[test]
fn the_prices_of_a_spec_go_before_those_of_the_table() {
    let place = with(
        "prices: { us-east-1: { write_usd_per_million: 1000000, read_usd_per_million: 0 }, default: { write_usd_per_million: 7, read_usd_per_million: 7 } }",
    );
    let run = place.run(RUN).expect(0).json();
    assert_eq!(run["cost_usd"]["actual"], run["capacity"]["write_units"], "a dollar a unit");
    assert_eq!(run["cost_usd"]["prices"], "us-east-1, as the spec has them");
}

/// A run under a limit pauses with less than that used; with a higher one it goes on to its end.
#[track_caller]
fn paused(place: &Place, first: &[&str], used: impl Fn(&Value) -> f64, limit: f64, goes_on: &[&str]) {
    let ended = place.run(&[RUN, first].concat()).expect(5);
    let summary = ended.json();
    assert_eq!(summary["outcome"], "paused", "{summary}");
    let so_far = used(&summary);
    assert!(so_far > 0.0 && so_far <= limit, "{so_far} of {limit}");
    ended.one_error();
    let again = place.run(&["resume", "--json"]).expect(5).json();
    assert!(used(&again) <= limit, "the limit holds over resumes: {again}");
    let summary = place.run(&[goes_on, &["--json"]].concat()).expect(0).json();
    assert_eq!(summary["outcome"], "complete");
    assert!(used(&summary) > limit, "{summary}");
    let arrived = summary["totals"]["created"].as_u64().expect("a count");
    let items = u64::try_from(parcels::items(place).len()).expect("small");
    assert_eq!(arrived, items, "what was paused is there once");
}

#[test]
fn a_cost_is_not_passed_and_a_resume_with_a_higher_one_goes_on() {
    let place = with("limits: { retry_for: 2s }");
    let usd = |summary: &Value| number(&summary["cost_usd"]["actual"]);
    paused(&place, &["--max-cost", "0.0002"], usd, 0.0002, &["resume", "--max-cost", "1"]);
}

#[test]
fn write_units_are_not_passed() {
    let place = with("limits: { max_write_units: 300 }");
    let units = |summary: &Value| number(&summary["capacity"]["write_units"]);
    let ended = place.run(RUN).expect(5);
    assert!(units(&ended.json()) <= 300.0, "{}", ended.out);
    assert!(ended.err.contains("the next request would pass `max_write_units`"), "{}", ended.err);
    assert!(
        ended.err.contains("hint: raise `limits: max_write_units`, then `resume --accept-spec`"),
        "{}",
        ended.err
    );
    place.write(
        "parcels.yaml",
        &parcels::SPEC.replace("limits: { retry_for: 2s }", "limits: { max_write_units: 3000 }"),
    );
    let done = place.run(&["resume", "--accept-spec", "--json"]).expect(0).json();
    assert_eq!(done["outcome"], "complete");
}

#[test]
fn a_limit_of_the_spec_is_one_of_dollars_too() {
    let place = with("limits: { max_cost_usd: 0.0001 }");
    let ended = place.run(RUN).expect(5);
    assert!(ended.err.contains("would pass `max_cost_usd`"), "{}", ended.err);
    assert!(ended.err.contains("`resume --max-cost USD`"), "{}", ended.err);
    let wrong = place.run(&["run", "parcels.yaml", "--env", "demo", "--max-cost", "much"]).expect(2);
    assert!(wrong.err.contains("a sum in dollars is expected: 0.50"), "{}", wrong.err);
}

/// What a plan foretells of a run that compares is what the run uses, within 2 %.
#[track_caller]
fn foretold(plan: &Value, run: &Value) {
    for (name, least) in [("read_units", 1.0), ("write_units", 0.0)] {
        let (plan, run) = (number(&plan["capacity"][name]), number(&run["capacity"][name]));
        assert!(run >= least && (plan - run).abs() <= run * 0.02, "{plan} {name} foretold, {run} used");
    }
    for name in ["all", "actual"] {
        let (plan, run) = (number(&plan["cost_usd"][name]), number(&run["cost_usd"][name]));
        assert!((plan - run).abs() <= run * 0.02, "{name}: ${plan} foretold, ${run} spent");
    }
}

#[test]
fn a_plan_foretells_what_comparing_costs() {
    let place = Place::new();
    parcels::fill(&place, "data/parcels.pg", &parcels::sql(4000, 20));
    place.write("parcels.json", parcels::TABLE);
    let changed = parcels::SPEC
        .replace("mode: upsert", "mode: changed")
        .replace("mode: skip_existing", "mode: changed");
    place.write("parcels.yaml", &changed);
    // Some of the parcels are rejects.
    place.run(RUN).expect(3);
    let plan = || place.run(&["plan", "parcels.yaml", "--env", "demo", "--all", "--json"]).expect(3).json();
    let run = || place.run(&["run", "parcels.yaml", "--env", "demo", "--json"]).expect(3).json();
    let (first, unchanged) = (plan(), run());
    assert_eq!(number(&unchanged["capacity"]["write_units"]), 0.0, "{unchanged}");
    foretold(&first, &unchanged);
    // The few senders are looked up by key, the parcels by reading the table.
    let notes = |flow: &str| {
        let flows = first["flows"].as_array().expect("flows").iter();
        flows.filter(|one| one["flow"] == flow).map(|one| one["notes"].to_string()).collect::<String>()
    };
    assert!(notes("senders").contains("compared with the table by key"), "{}", notes("senders"));
    assert!(notes("parcels").contains("which is read whole first"), "{}", notes("parcels"));
    assert!(number(&unchanged["cost_usd"]["actual"]) < number(&unchanged["cost_usd"]["all"]), "it saves");
    // With fingerprints there is nothing to be read.
    place.write("parcels.yaml", &changed.replace("mode: changed", "mode: changed, compare: journal"));
    run();
    let (first, unchanged) = (plan(), run());
    for name in ["read_units", "write_units"] {
        let (plan, run) = (&first["capacity"], &unchanged["capacity"]);
        assert_eq!((number(&plan[name]), number(&run[name])), (0.0, 0.0), "{plan} {run}");
    }
}

#[test]
fn a_limit_in_dollars_wants_prices_that_are_known() {
    let place = with("limits: { retry_for: 2s }");
    let elsewhere = |more: &[&str]| place.run(&[RUN, &["--region", "af-south-1"], more].concat());
    let refused = elsewhere(&["--max-cost", "1"]).expect(2);
    assert!(refused.err.contains("the prices of af-south-1 are not known"), "{}", refused.err);
    assert!(refused.err.contains("write_usd_per_million"), "{}", refused.err);
    refused.one_error();
    let run = elsewhere(&[]).expect(0).json();
    let prices = run["cost_usd"]["prices"].as_str().expect("a text");
    assert!(prices.contains("those of af-south-1 are not known, give them under `prices`"), "{prices}");
}
