"""One turn of the wheel as seen from outside: dataset, training, evaluation, decision, deployment. Starts none of them."""

from typing import Any

from services.cli import api
from services.cli.demo.board import Board, DemoFailed, Stage
from services.cli.demo.screen import curve
from services.cli.demo.wait import Watch
from services.cli.output import text

Json = dict[str, Any]


class Superseded(DemoFailed):
    """A newer dataset came before the run began; another run trains on it."""


def newest(service: str, path: str, project: str, **same: Any) -> Json | None:
    """The newest item whose fields are as given, or None."""
    for item in api.items(service, path, 20, project=project)["items"]:
        if all(item.get(name) == value for name, value in same.items()):
            return item
    return None


def train(board: Board, watch: Watch, project: str, number: int) -> Json:
    """Follows the training on dataset `number`; the finished run.

    Raises:
        Superseded: a newer dataset is trained on instead.
        DemoFailed: with the run's cause.
    """
    losses: list[float] = []
    with board.stage("training") as stage:

        def look() -> Json | None:
            run = next((r for r in runs(project) if r["dataset"]["number"] == number), None)
            if run is None:
                return None
            _say_training(stage, run, losses)
            if run["status"] in ("failed", "cancelled", "superseded"):
                failure = Superseded if run["status"] == "superseded" else DemoFailed
                raise failure(f"run {run['run_id']}: {run['cause']}: {run['detail']}; {watch.log('trainer')}")
            return run if run["status"] == "done" else None

        run = watch.wait("the end of the training", look, 3600)
        figures = run.get("figures") or {}
        facts = {k: figures[k] for k in ("steps", "train_loss", "validation_loss", "tokens_per_second") if k in figures}
        stage.say(f"{text(facts)}  {curve(losses)}")
        return run


def runs(project: str) -> list[Json]:
    """The newest runs of a project."""
    return api.items("trainer", "/v1/runs", 20, project=project)["items"]


def _say_training(stage: Stage, run: Json, losses: list[float]) -> None:
    done = run.get("progress") or {}
    if not done.get("total_steps"):
        stage.say(f"{run['status']}")
        return
    loss = done.get("loss")
    if loss is not None and (not losses or losses[-1] != loss):
        losses.append(loss)
    validation = done.get("validation_loss")
    parts = [
        f"step {done['step']}/{done['total_steps']}",
        f"loss {loss:.3f}" if loss is not None else "",
        f"validation {validation:.3f}" if validation is not None else "",
        f"{done.get('tokens_per_second') or 0:.0f} tokens/s",
        f"{minutes(done.get('eta_seconds') or 0)} left",
        curve(losses),
    ]
    stage.say("  ".join(part for part in parts if part), done["step"] / done["total_steps"])


def evaluate(board: Board, watch: Watch, project: str, run_id: str) -> Json:
    """Follows the evaluation of a run's model; the finished evaluation.

    Raises:
        DemoFailed: with the evaluation's cause.
    """
    with board.stage("evaluation") as stage:

        def look() -> Json | None:
            found = newest("evaluator", "/v1/evaluations", project, run_id=run_id)
            if found is None:
                return None
            done = found.get("progress") or {}
            if done.get("total"):
                share = done["done"] / done["total"]
                stage.say(f"{done.get('stage', '')} {done['done']}/{done['total']} answers and losses", share)
            if found["status"] == "failed":
                raise DemoFailed(f"evaluation: {found['cause']}: {found['detail']}; {watch.log('evaluator')}")
            return found if found["status"] == "done" else None

        found = watch.wait("the end of the evaluation", look, 1800)
        champion = found["champion"]
        name = "base" if champion["version"] == 0 else f"champion {champion['name']}@{champion['version']}"
        stage.say(f"candidate {scores(found['metrics'])}  |  {name} {scores(found['champion_metrics'])}")
        return found


def scores(metrics: Json | None) -> str:
    """The metrics' values on one line."""
    return ", ".join(f"{name} {metric['value']:.3g}" for name, metric in (metrics or {}).items())


def decide(board: Board, watch: Watch, project: str, run_id: str) -> Json:
    """Waits for the gate; the model version, promoted or rejected."""
    with board.stage("gate") as stage:

        def look() -> Json | None:
            found = newest("registry", "/v1/models", project, run_id=run_id)
            return found if found is not None and found["stage"] != "candidate" else None

        model = watch.wait("the gate's decision", look, 120)
        name = f"{model['name']}@{model['version']}"
        if model["stage"] == "rejected":
            stage.say(f"{name} rejected: {'; '.join(model.get('failed') or []) or model.get('detail', '')}")
        else:
            stage.say(f"{name} promoted: {model.get('detail') or 'every rule of the gate holds'}")
        return model


def deploy(board: Board, watch: Watch, project: str, version: int) -> Json:
    """Waits until the gateway answers with a version; the deployment.

    Raises:
        DemoFailed: with what serving says.
    """
    with board.stage("deployment") as stage:

        def look() -> Json | None:
            for item in api.get("serving", "/v1/deployments")["items"]:
                if item["project"] == project and item["model"]["version"] == version:
                    if item["status"] == "failed":
                        raise DemoFailed(f"deployment: {item.get('detail')}; {watch.log('serving')}")
                    return item if item["status"] == "deployed" else None
            return None

        found = watch.wait("the deployment", look, 300)
        stage.say(f"{found['model']['name']}@{version} answers")
        return found


def minutes(seconds: float) -> str:
    """Seconds as '2:05'."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
