from molere_cli.testing import check_backbone


def test_the_contract():
    check_backbone("example_mlp", options={"hidden": 8})
