import pytest

from vitjax.data.paths import data_folder
from vitjax.errors import UserError


def test_data_folder(tmp_path):
    assert data_folder(str(tmp_path), 'cifar', 'a folder of files') == tmp_path
    with pytest.raises(UserError, match=r"data set 'cifar' needs .*, a folder of files"):
        data_folder(None, 'cifar', 'a folder of files')
    with pytest.raises(UserError, match=r"no folder '/no/such' \(config\.data\.path\)"):
        data_folder('/no/such', 'cifar', 'a folder of files')
