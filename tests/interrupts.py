"""Trainings that are stopped at a step, as Ctrl-C stops them."""


def stop_at(step):
    """To stand for `training.loop.trainer.Progress.on_step_end`."""

    def stop(progress, args, state, control, **kwargs):
        if state.global_step == step:
            raise KeyboardInterrupt

    return stop
