"""One joint put to the test: a whole run, one that is ended before, and the one that goes on."""

import re
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from pytorch_lightning.callbacks import Callback

from benchmarks.fuzz import laws
from benchmarks.fuzz.endings import (
    SendSignal,
    Snapshot,
    changes_length,
    checkpoint,
    ending,
    last_batch,
    moment,
    resume_words,
    stopped_length,
)
from benchmarks.fuzz.honest import Judge
from benchmarks.fuzz.joint import Joint
from benchmarks.fuzz.laws import Broken
from benchmarks.fuzz.refusals import check_refused
from benchmarks.fuzz.session import Session, session
from benchmarks.fuzz.settings import config_of, run_steps, steps_after
from benchmarks.fuzz.tokens import check_tokens
from benchmarks.same import newest_run, rows, state, unequal

__all__ = ["Trial"]


class Trial:
    """The runs of one joint in a folder of their own.

    Args:
        joint: The joint.
        seed: Seed of its runs.
        folder: Empty.
        images: Folder of images, see `image_folder`.
    """

    def __init__(self, joint: Joint, seed: int, folder: Path, images: Path) -> None:
        self.joint = joint
        self.seed = seed
        self.whole, self.part = folder / "whole", folder / "part"
        self._images = images
        # Validations of the run that was ended, as far as it came.
        self._validations: list[tuple[int, float]] = []
        self._batch = 0

    def judge(self) -> str:
        """Do the runs.

        Returns:
            ``refused``, ``ended`` or ``resumed``.

        Raises:
            Broken: A law does not hold.
        """
        joint, goes_on = self.joint, self.joint["resume"] != "no"
        in_whole = joint["end"] in ("end", "kill")
        if goes_on or in_whole:
            whole = self._whole()
            if whole is None:
                return "refused"
        if not in_whole and not self._stopped():
            return "refused"
        root = self.whole if joint["end"] == "end" else self.part
        if goes_on:
            run = self._resume(root)
            root = run if run is not None else root
        if joint["tokens"] != "no" and checkpoint(root, "best"):
            check_tokens(joint, root, files=joint["data"] == "files")
        return "resumed" if goes_on else "ended"

    def _run(self, words: Sequence[str], callbacks: Sequence[Callback] = ()) -> Session:
        judge = Judge()
        run = session(words, [*callbacks, judge], self.joint["data"] == "files")
        if judge.broken is not None:
            raise judge.broken
        return run

    def _start(self, root: Path, words: Sequence[str], callbacks: Sequence[Callback]) -> Session:
        path = root.with_suffix(".yaml")
        config = config_of(self.joint, str(root), str(self._images), self.seed)
        path.write_text(yaml.safe_dump(config))
        return self._run(["fit", f"--config={path}", *words], callbacks)

    def _whole(self) -> Session | None:
        """Do the whole run; ``None`` where it is refused."""
        joint, batch = self.joint, moment(self.joint)
        snapshot = Snapshot(self.whole, self.part, batch, validating=batch % 2 == 0)
        run = self._start(self.whole, (), [snapshot] if joint["end"] == "kill" else ())
        if check_refused(joint, run, self.whole):
            return None
        laws.check_end(run)
        steps = run_steps(joint)
        laws.check_steps(run, 0, steps)
        laws.check_validations(joint, run, 0, last_batch(joint), extra=False)
        self._check_done(run, self.whole, steps)
        if joint["end"] == "kill":
            self._validations = run.diary.validations[: snapshot.validations]
        return run

    def _stopped(self) -> bool:
        """Do the run that is ended; false where it is refused."""
        joint, how = self.joint, ending(self.joint)
        run = self._start(self.part, how.words, how.callbacks)
        if check_refused(joint, run, self.part):
            return False
        signals = [c for c in how.callbacks if isinstance(c, SendSignal) and c.step is not None]
        if changes_length(joint):
            steps = stopped_length(joint)
        else:
            steps = self._asked_to_stop(run, signals[0].step if signals else None)
        laws.check_steps(run, 0, steps)
        batches = run.diary.batches
        if run.code:
            # A signal in the last batch leaves its validation to the run that goes on.
            due = laws.validated_after(joint, batches)
            batches -= len(run.diary.validations) < len(due) and due[-1] == batches
        extra = joint["end"] in ("max_time", "stop")
        laws.check_validations(joint, run, 0, batches, extra)
        self._validations = run.diary.validations
        if run.code == 0:
            self._check_done(run, self.part, steps)
        elif steps and checkpoint(self.part) is None:
            raise Broken("files", "a signal left no last.ckpt")
        return True

    def _asked_to_stop(self, run: Session, sent: int | None) -> int:
        """Check a run that was asked to stop; return the steps that it has taken."""
        joint = self.joint
        laws.check_end(run, 0 if sent is None else 128 + signal.SIGTERM)
        assert run.trainer is not None
        steps: int = run.trainer.global_step
        # A step is finished, and so is a validation.
        least = steps_after(joint, moment(joint)) if sent is None else sent
        most = least + 1
        if joint["end"] == "signal" and sent is None:
            least = most = run_steps(joint)  # no validation came in which to send it
        if not least <= steps <= most:
            raise Broken("steps", f"stopped after {steps}, should be {least} to {most}")
        return steps

    def _check_done(self, run: Session, root: Path, steps: int) -> None:
        """Ask of a run that came to its end what is asked of all."""
        joint, folder = self.joint, newest_run(root)
        laws.check_end(run)
        length = stopped_length(joint) if root == self.part else run_steps(joint)
        laws.check_schedules(joint, run, length)
        laws.check_files(joint, run, folder, steps)
        laws.check_log(joint, run, folder)
        laws.check_best(run, folder, run.diary.validations)

    def _resume(self, root: Path) -> Path | None:
        """Go on with the run; return the folder of the runs."""
        joint, steps = self.joint, run_steps(self.joint)
        found = checkpoint(root)
        at = torch.load(found, weights_only=True)["global_step"] if found else 0
        words = resume_words(joint, self.whole.with_suffix(".yaml"), root)
        run = self._run(words)
        laws.check_end(run)
        (root_word,) = [word for word in words if word.startswith("--trainer.default_root_dir=")]
        root = Path(root_word.partition("=")[2])
        laws.check_steps(run, at, steps)
        if at == steps:
            if joint["end"] == "end" and not re.search(r"nothing (is |was )?left", run.output):
                raise Broken("finished", "a finished run does not say that nothing is left to do")
            return root
        self._check_resumed_validations(run, at)
        laws.check_schedules(joint, run, steps)
        folder = newest_run(root)
        laws.check_files(joint, run, folder, steps)
        laws.check_log(joint, run, folder)
        laws.check_best(run, folder, [*self._validations, *run.diary.validations])
        if not changes_length(joint) or joint["schedules"] in ("none", "steps"):
            self._check_same(folder)
        return root

    def _check_resumed_validations(self, run: Session, at: int) -> None:
        """Ask that both runs together validated as the whole one; one may be done again."""
        joint = self.joint
        # The batch that finished the step of the checkpoint.
        last = last_batch(joint)
        batch = next(n for n in range(last + 1) if steps_after(joint, n) == at)
        due = laws.validated_after(joint, last)
        late = [steps_after(joint, n) for n in due if n > batch]
        again = [steps_after(joint, n) for n in due if n == batch]
        found = [step for step, _ in run.diary.validations]
        if found not in (late, [*again, *late]):
            raise Broken("validations", f"resumed at {at}, at steps {found}, should be at {late}")
        before = [step for step, _ in self._validations]
        missing = {steps_after(joint, n) for n in due} - {*before, *found}
        if missing:
            raise Broken("validations", f"none at steps {sorted(missing)}, resumed at {at}")

    def _check_same(self, folder: Path) -> None:
        """Compare with the whole run, to the last bit."""
        whole = newest_run(self.whole)
        asked = self.joint["end"] in ("max_time", "stop")
        # A trainer that is asked to stop validates once more, which is drawn, and may be the best.
        own = ("Curves",) if asked else ()
        for name in ("last",) if asked else ("last", "best"):
            path = f"checkpoints/{name}.ckpt"
            problem = unequal(state(whole / path, own), state(folder / path, own), name)
            if problem:
                raise Broken("weights", f"not those of the whole run: {problem[:200]}")
        logged = [row for _, row in rows(whole)]
        for key, row in rows(folder):
            if asked and any(name.startswith("test/") for name in row):
                continue
            if row not in logged:
                # Several validations may have the same step.
                known = [other for name, other in rows(whole) if name == key]
                raise Broken("metrics", f"step {key[0]}: {row}, should be of {known}"[:400])
