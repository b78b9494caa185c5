"""Options of `join` for the limits that volunteers set most."""

from typing import Annotated

import typer

_PANEL = "Your limits"

Hours = Annotated[
    str | None, typer.Option(help="Work only in these local hours, such as 22-6.", rich_help_panel=_PANEL)
]
AcPowerOnly = Annotated[
    bool | None, typer.Option("--ac-power-only", help="Work only while plugged in.", rich_help_panel=_PANEL)
]
MaxRoundsPerDay = Annotated[
    int | None, typer.Option(help="Send at most so many updates a day.", rich_help_panel=_PANEL)
]
MaxTrainingSeconds = Annotated[
    float | None, typer.Option(help="Give a task back that trains longer than this.", rich_help_panel=_PANEL)
]
MaxLocalEpochs = Annotated[
    int | None, typer.Option(help="Refuse tasks of more passes over the data.", rich_help_panel=_PANEL)
]
MaxModelMegabytes = Annotated[
    float | None, typer.Option(help="Refuse larger models.", show_default="1000", rich_help_panel=_PANEL)
]
Jobs = Annotated[str | None, typer.Option(help="Work only on these jobs, commas between.", rich_help_panel=_PANEL)]
MinCohort = Annotated[
    int | None, typer.Option(help="Refuse rounds that may average fewer updates.", rich_help_panel=_PANEL)
]
MaxUpdateNorm = Annotated[
    float | None, typer.Option(help="Scale updates down to this L2 norm.", rich_help_panel=_PANEL)
]
ShareSampleCount = Annotated[
    str | None,
    typer.Option(
        help="Tell the number of samples exact, rounded or hidden.", show_default="exact", rich_help_panel=_PANEL
    ),
]
ShareLoss = Annotated[
    str | None,
    typer.Option(help="Tell losses exact, rounded or hidden.", show_default="rounded", rich_help_panel=_PANEL),
]
KeepUpdates = Annotated[
    int | None, typer.Option(help="Keep copies of so many updates that were sent.", rich_help_panel=_PANEL)
]
