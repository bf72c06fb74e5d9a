# Packages. PLATFORM=el7|el9 picks the executor's; RPM_PYTHON the Python that builds and runs it, found by name.
# BUNDLED=DIR: carry an interpreter built from the Python source archive in DIR (the spec says which); without, the
# packages run the node's own. TORCH_INDEX: an index with torch's CPU build, or torch brings gigabytes of CUDA.
PLATFORM ?= el7
RPM_PYTHON ?= $(if $(filter el7,$(PLATFORM)),python3.9,python3.11)
BUNDLED ?=
RPM_TOP := $(CURDIR)/build/rpm
PROJECT_VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' outliers/__init__.py)
RPM_FILES := outliers export rpm deploy requirements requirements.txt requirements-train.txt README.md CHANGELOG.md LICENSE
RPM_DEFINES = --define "_sourcedir $(RPM_TOP)/SOURCES" --define "version_of_project $(PROJECT_VERSION)" --nodeps

.PHONY: rpm
rpm: rpm-executor rpm-trainer  ## both packages, into dist/ (TORCH_INDEX=… for torch's CPU build)

.PHONY: rpm-source
rpm-source: system
	mkdir -p $(RPM_TOP)/SOURCES dist
	tar -czf $(RPM_TOP)/SOURCES/rb-aioutliers-$(PROJECT_VERSION).tar.gz --exclude=__pycache__ --exclude=.gitignore \
	    --transform 's,^,rb-aioutliers-$(PROJECT_VERSION)/,' $(RPM_FILES)
	$(if $(BUNDLED),cp $(BUNDLED)/Python-*.tar.xz $(RPM_TOP)/SOURCES/)

# $(call rpmbuild,PACKAGE,DIST,PYTHON,MORE)
define rpmbuild
	python=$$(make/find-python.sh $(3)) && PATH="$$(dirname "$$python"):$$PATH" rpmbuild -bb $(RPM_DEFINES) \
	    --define "_topdir $(RPM_TOP)/$(1)" \
	    --define "dist .$(2)" --define "python $(3)" $(if $(BUNDLED),,--without bundled_python) $(4) rpm/$(1).spec
	mv $(RPM_TOP)/$(1)/RPMS/*/$(1)-$(PROJECT_VERSION)-*.rpm dist/
	rm -rf $(RPM_TOP)/$(1)
	@ls -l dist/$(1)-$(PROJECT_VERSION)-*.rpm
endef

.PHONY: rpm-executor
rpm-executor: rpm-source  ## the executor's package (PLATFORM=el7 or el9)
	$(call rpmbuild,rb-aioutliers,$(PLATFORM),$(RPM_PYTHON))

.PHONY: rpm-trainer
rpm-trainer: rpm-source  ## the trainer's package
	$(call rpmbuild,rb-aioutliers-trainer,el8,python3.11,$(if $(TORCH_INDEX),--define "torch_index $(TORCH_INDEX)"))

.PHONY: rpm-mock
rpm-mock: rpm-source  ## the same in clean EL7 and EL9 roots, where mock exists (BUNDLED=DIR with the Python source)
	@command -v mock >/dev/null || { echo "mock is not installed: nothing built" >&2; exit 1; }
	rpmbuild -bs $(RPM_DEFINES) --define "_srcrpmdir $(RPM_TOP)/SRPMS" $(if $(BUNDLED),,--without bundled_python) rpm/rb-aioutliers.spec rpm/rb-aioutliers-trainer.spec
	mock -r centos+epel-7-x86_64 --enable-network --resultdir dist $(RPM_TOP)/SRPMS/rb-aioutliers-$(PROJECT_VERSION)-*.src.rpm
	mock -r rocky+epel-9-x86_64 --enable-network --resultdir dist $(RPM_TOP)/SRPMS/rb-aioutliers*-$(PROJECT_VERSION)-*.src.rpm

.PHONY: test-rpm
test-rpm: $(VENV)/.dev system  ## install the packages of dist/ into an empty root, run them from there, upgrade, remove
	OUTLIERS_TEST_PACKAGES=1 $(PY) -m pytest tests/rpm -rs -s $(ARGS)

.PHONY: lock
lock:  ## write requirements/*.lock anew
	requirements/lock.sh
