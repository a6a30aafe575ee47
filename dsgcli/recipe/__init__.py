"""Recipes: what a run should do, as frozen values read from `recipes/*.toml`.

A recipe only chooses; the library holds the components. One table a stage, and a stage runs if its
table is there. `dsg train --dry-run RECIPE` prints the resolved recipe.
"""

from dsgcli.recipe.reading import (
    SHARED_TABLES,
    STAGE_TABLES,
    STAGES,
    TABLES,
    Recipe,
    build,
    changes,
    read_recipe,
    recipe_values,
    write_toml,
)
from dsgcli.recipe.stages import (
    AdversarialRecipe,
    BaseRecipe,
    DestylizeRecipe,
    EncoderRecipe,
    EnlargeRecipe,
    EvaluateRecipe,
    FinetuneRecipe,
    Growth,
    PretrainRecipe,
    RefineRecipe,
    SamplerRecipe,
    TransferRecipe,
)
from dsgcli.recipe.tables import (
    DataRecipe,
    FeaturesRecipe,
    ModelRecipe,
    PrepareRecipe,
    RunRecipe,
    Source,
    StartRecipe,
    Table,
)

__all__ = [
    "SHARED_TABLES",
    "STAGES",
    "STAGE_TABLES",
    "TABLES",
    "AdversarialRecipe",
    "BaseRecipe",
    "DataRecipe",
    "DestylizeRecipe",
    "EncoderRecipe",
    "EnlargeRecipe",
    "EvaluateRecipe",
    "FeaturesRecipe",
    "FinetuneRecipe",
    "Growth",
    "ModelRecipe",
    "PrepareRecipe",
    "PretrainRecipe",
    "Recipe",
    "RefineRecipe",
    "RunRecipe",
    "SamplerRecipe",
    "Source",
    "StartRecipe",
    "Table",
    "TransferRecipe",
    "build",
    "changes",
    "read_recipe",
    "recipe_values",
    "write_toml",
]
